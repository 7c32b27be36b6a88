"""Images."""

import datetime
from typing import Annotated, Literal

import msgspec

from bhatti.operations.documents.base import Answer, Event, Request


class Image(Answer, frozen=True, kw_only=True):
    """An image that sandboxes can be made from.

    `size_bytes` is the size of its file system, `stored_bytes` what that takes on the disk, `source` where it is from.
    """

    name: str
    digest: str
    size_bytes: int
    stored_bytes: int
    created_at: datetime.datetime
    kernel: str = ""
    source: str = ""


class ImageBuild(Request, frozen=True, kw_only=True):
    """Which image to build. What is there already is not built again, unless `refresh` asks for newer packages."""

    name: str = "base"
    refresh: bool = False


class ImageImport(Request, frozen=True, kw_only=True):
    """An image on the daemon's machine: `docker-archive:FILE`, `oci-archive:FILE` or `oci:DIR`, absolute paths.

    `:TAG` after the path chooses one of several. Without `name` the image keeps the one that it has there.
    """

    source: Annotated[str, msgspec.Meta(min_length=1, max_length=4608)]
    name: str | None = None


class ImagePull(Request, frozen=True, kw_only=True):
    """An image of a registry, such as `alpine:3.19`. Without `name` it is called `alpine-3.19`.

    `insecure` allows plain HTTP to machines other than the daemon's. Without `username` the daemon's own Docker
    configuration is asked for credentials, for the administrator. Users may pull from the registries that the setting
    `user_registries` lists.
    """

    reference: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    name: str | None = None
    insecure: bool = False
    username: str = ""
    password: str = ""


class ImagesPruned(Answer, frozen=True, kw_only=True):
    """How much disk was freed."""

    freed_bytes: int


class BuildEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a build's stream: `done` of `total` units of `stage`, at the end `image` or `error`."""

    type: Literal["progress", "image", "error"]
    stage: str = ""
    done: int = 0
    total: int = 0
    image: Image | None = None
