"""What is done to files inside a guest, as a program: `ACTION ARGUMENT...`, errors as JSON on standard error."""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator

from bhatti.trees.packing import pack
from bhatti.trees.tar import PIECE_BYTES, Refused
from bhatti.trees.unpacking import DRAFT, Owner, make_directory, unpack

FAILED = 3
"""Exit code of a chore that says why it could not be done."""


def make(path: str, mode: str, parents: str) -> None:
    """Make a directory; with `parents`, those above it too, and it may be there already."""
    if parents:
        make_directory(path, owner(), int(mode, 8))
        return
    os.mkdir(path, 0o700)
    if (mine := owner()) is not None:
        os.chown(path, *mine)
    os.chmod(path, int(mode, 8))


def remove(path: str, recursive: str) -> None:
    """Remove a file, a link or an empty directory; with `recursive`, a directory with all that is in it."""
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
    elif recursive:
        shutil.rmtree(path)
    else:
        os.rmdir(path)


def move(source: str, target: str) -> None:
    """Give a file or directory another name, also on another file system; a file replaces a file."""
    os.lstat(source)  # what is not there moves nowhere, and makes no directories
    _make_room(target)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        return
    copy(source, target)
    remove(source, "recursive")


def copy(source: str, target: str) -> None:
    """Copy a file or directory with its owners; the copy has its name when it is complete."""
    inside = os.path.realpath(target) + "/"
    if inside.startswith(os.path.realpath(source) + "/"):
        raise OSError(errno.EINVAL, "a directory cannot be put into itself", target)
    os.lstat(source)
    _make_room(target)
    draft = os.path.join(os.path.dirname(target), f"{DRAFT.decode()}{os.urandom(8).hex()}")
    os.mkdir(draft, 0o700)
    try:
        whole = f"{draft}/whole"
        if os.path.islink(source):
            os.symlink(os.readlink(source), whole)
        else:
            unpack(pack(source, "whole"), draft, keep_owner=os.geteuid() == 0)
        os.rename(whole, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _make_room(target: str) -> None:
    """Make the directories that `target` needs."""
    if (above := os.path.dirname(target)) and not os.path.lexists(above):
        make_directory(above, owner())


def send(path: str, name: str) -> None:
    """Write an archive of `path` to standard output."""
    for piece in pack(path, name):
        _write(piece)


def receive(path: str) -> None:
    """Unpack standard input into the directory `path`, after a line that says that it is there."""

    def pieces() -> Iterator[bytes]:
        _write(b"\n")
        while piece := os.read(0, PIECE_BYTES):
            yield piece

    unpack(pieces(), path, owner=owner())


def owner() -> Owner | None:
    """Return whom new files are given to: the owner of where commands run, if this program may give at all."""
    return WORKPLACE if os.geteuid() == 0 else None


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


CHORES: dict[str, Callable[..., None]] = {
    "make": make,
    "remove": remove,
    "move": move,
    "copy": copy,
    "send": send,
    "receive": receive,
}

WORKPLACE: Owner = (0, 0)


def main(arguments: list[str]) -> int:
    """Do a chore; return the program's exit code."""
    global WORKPLACE
    there = os.stat(".")
    WORKPLACE = there.st_uid, there.st_gid
    os.chdir("/")  # as the agent itself, for which paths are absolute
    os.umask(0o022)
    action, *rest = arguments
    try:
        CHORES[action](*rest)
    except Refused as error:
        said: dict[str, object] = {"refused": str(error)}
    except OSError as error:
        said = {"errno": error.errno or 0, "what": f"{os.fsdecode(error.filename or rest[0])}: {error.strerror}"}
    else:
        return 0
    sys.stderr.write(json.dumps(said) + "\n")
    return FAILED
