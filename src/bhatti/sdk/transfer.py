"""Files between this machine and a sandbox: where `cp` puts them, and what goes wrong on this side."""

import contextlib
import errno
import os
import posixpath
from collections.abc import Callable, Iterator

import msgspec

from bhatti.errors import BhattiError, Conflict, NotFound, OutOfSpace, Unavailable
from bhatti.trees.packing import pack
from bhatti.trees.tar import PIECE_BYTES, Refused

STREAM = "-"
"""Standard input or output, as a tar stream."""


class There(msgspec.Struct, frozen=True):
    """A path inside a sandbox."""

    sandbox: str
    path: str


def parsed(text: str) -> There | str:
    """Return what an argument of `cp` names: `NAME:PATH` in a sandbox, or a path of this machine.

    The path of `NAME:` is empty. A path of this machine that has a colon is written with a slash before it (`./a:b`).
    """
    name, colon, path = text.partition(":")
    if not colon or "/" in name or name in ("", ".", ".."):
        return text
    return There(name, path)


def placed(source: str, target: str, *, is_dir: bool, target_is_dir: bool | None) -> str:
    """Return where `source` goes when it is copied to `target`, as docker cp and cp(1) have it.

    `target_is_dir` is None if it is not there. Into a directory that is there goes the source with its name, or, if it
    ends in `/.`, what is in it. Raises `Conflict` (code `not-a-directory`) and `NotFound` (code `no-such-file`).
    """
    if target_is_dir is None:
        if target.endswith("/") and not is_dir:
            raise NotFound(f"the directory {target} is not there", hint="make it first", code="no-such-file")
        return target.rstrip("/") or "/"
    if not target_is_dir:
        if is_dir or target.endswith("/"):
            raise Conflict(f"{target} is a file, not a directory", hint="choose another name", code="not-a-directory")
        return target
    name = posixpath.basename(posixpath.normpath(source))
    if (is_dir and source.endswith("/.")) or name in ("", ".", ".."):
        return target
    return posixpath.join(target, name)


def packed(path: str, name: str = "", on_left_out: Callable[[bytes], None] | None = None) -> Iterator[bytes]:
    """Yield a file or directory of this machine as a tar stream; raises our errors, not those of a lost connection."""
    with on_this_machine():
        yield from pack(path, name, on_left_out)


def pieces_of(descriptor: int, size: int) -> Iterator[bytes]:
    """Yield the `size` bytes that were announced; what has been added to the file meanwhile stays out."""
    while size:
        piece = os.read(descriptor, min(size, PIECE_BYTES))
        if not piece:
            raise EOFError("the file became shorter while it was sent")  # the connection ends, and the file is refused
        size -= len(piece)
        yield piece


@contextlib.contextmanager
def packed_by_a_stranger() -> Iterator[None]:
    """Raise ours for an archive of a sandbox that is not taken."""
    try:
        yield
    except Refused as err:
        raise Unavailable(
            f"what the sandbox sent is not taken: {err}",
            hint="somebody in it has made it so, or the connection broke off; what was complete before is there",
            code="bad-archive",
        ) from err


@contextlib.contextmanager
def on_this_machine() -> Iterator[None]:
    """Raise our errors for those of this machine's files."""
    try:
        yield
    except OSError as err:
        raise _told(err) from err


def _told(err: OSError) -> BhattiError:
    message = f"{err.filename}: {err.strerror}" if err.filename else str(err)
    match err.errno:
        case errno.ENOENT:
            return NotFound(message, hint="the path is one of this machine", code="no-such-file")
        case errno.ENOSPC | errno.EDQUOT:
            return OutOfSpace(message, hint="free some space on this machine")
        case errno.EISDIR | errno.ENOTDIR | errno.EEXIST | errno.ENOTEMPTY:
            return Conflict(message, hint="something else has that name on this machine", code="file-exists")
        case _:
            return Unavailable(message, hint="look at the rights of that path on this machine", code="local-file")
