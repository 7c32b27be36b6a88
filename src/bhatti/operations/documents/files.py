"""Files of a sandbox."""

from typing import Annotated, Literal

import msgspec

from bhatti.operations.documents.base import Answer, Event, Request

FilePath = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
FileMode = Annotated[str, msgspec.Meta(pattern=r"^0?[0-7]{3,4}$")]

MAX_WATCH_S = 86_400.0
"""A day; who watches longer asks again."""


class FileQuery(Request, frozen=True, kw_only=True):
    """Which file, and how much of it: from line `offset` (1 is the first), `limit` lines, `max_bytes` at most."""

    path: FilePath
    ls: bool = False
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=0)] = 0
    max_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0


class FileWriteQuery(Request, frozen=True, kw_only=True):
    """Where the body goes, and the mode of the new file as octal text."""

    path: FilePath
    mode: FileMode = "0644"


class FileEntry(Answer, frozen=True, kw_only=True):
    """A file as `ls` lists it: octal `mode`, `mtime` in unix seconds."""

    name: str
    size: int
    mode: str
    is_dir: bool
    mtime: int


class DirectoryMake(Request, frozen=True, kw_only=True):
    """A directory to make. Without `parents`, those above it must be there and it must not."""

    path: FilePath
    mode: FileMode = "0755"
    parents: bool = True


class FileRemoveQuery(Request, frozen=True, kw_only=True):
    """What to remove: a file, a link, an empty directory, or with `recursive` a directory with all that is in it."""

    path: FilePath
    recursive: bool = False


class FileMove(Request, frozen=True, kw_only=True):
    """From where to where. A file replaces a file; the directories that `target` needs are made."""

    source: FilePath
    target: FilePath


class ArchiveQuery(Request, frozen=True, kw_only=True):
    """What to pack, and the name that it has in the archive; without one, what is in a directory stands at the top."""

    path: FilePath
    name: Annotated[str, msgspec.Meta(max_length=255, pattern=r"^[^/\x00]*$")] = ""


class UnpackQuery(Request, frozen=True, kw_only=True):
    """The directory to unpack into; it is made if it is not there."""

    path: FilePath


class WatchQuery(Request, frozen=True, kw_only=True):
    """What to watch: a file, a directory, or with `recursive` all below it; for `timeout_sec` at most, or for ever."""

    path: FilePath
    recursive: bool = False
    timeout_sec: Annotated[float, msgspec.Meta(gt=0, le=MAX_WATCH_S)] | None = None


class FileEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a watch: `ready` when it stands, then a `change` for each thing that happens to `path`.

    `change` is `created`, `modified`, `attributes`, `deleted`, `moved-from` or `moved-to`. `overflow` says that some
    were lost: look at the files. `alive` comes when nothing has happened for some seconds, `end` when the time is up.
    """

    type: Literal["ready", "change", "overflow", "alive", "end", "error"]
    path: str | None = None
    change: str | None = None
    is_dir: bool = False
