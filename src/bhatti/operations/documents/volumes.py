"""Volumes, and how sandboxes have them."""

import datetime
from typing import Annotated

import msgspec

from bhatti.model.sandbox import VolumeStatus
from bhatti.operations.documents.base import Answer, Request

SizeMb = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
"""1 MiB to 1 TiB."""


class VolumeMount(Request, frozen=True, kw_only=True):
    """A volume and where the sandbox finds it: `target`, which may be called `mount`.

    With `auto_create` it is made if it is not there, `size_mb` large (1 GiB if that is not said). `readonly` is another
    word for `read_only`.
    """

    name: str
    target: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    mount: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    read_only: bool = False
    readonly: bool = False
    auto_create: bool = False
    size_mb: SizeMb | None = None


class Mounted(Answer, frozen=True, kw_only=True):
    """A volume that a sandbox has."""

    name: str
    mount: str
    read_only: bool


class VolumeCreate(Request, frozen=True, kw_only=True):
    """The volume to make. Without a size it is 1 GiB, or the one that is there already."""

    name: str
    size_mb: SizeMb | None = None


class VolumeResize(Request, frozen=True, kw_only=True):
    """How large a volume is to be: larger than it is."""

    size_mb: SizeMb


class VolumeClone(Request, frozen=True, kw_only=True):
    """What the copy is to be called."""

    name: str


class VolumeAttached(Answer, frozen=True, kw_only=True):
    """A sandbox that has a volume, running or not."""

    sandbox: str
    sandbox_id: str
    mount: str
    read_only: bool


class Volume(Answer, frozen=True, kw_only=True):
    """A volume. `used_mb` is what it takes on the disk, where that is known."""

    name: str
    size_mb: int
    created_at: datetime.datetime
    status: VolumeStatus
    used_mb: int | None = None
    attached: list[VolumeAttached] = []
