"""A file or directory as one tar stream."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator

from bhatti.trees.tar import BLOCK_BYTES, DIRECTORY, ENDING, FILE, HARD_LINK, PIECE_BYTES, SYMLINK, header, remark

SPECIAL = {
    stat.S_IFIFO: b"a named pipe",
    stat.S_IFSOCK: b"a socket",
    stat.S_IFBLK: b"a device",
    stat.S_IFCHR: b"a device",
}
"""What is not packed, by the kind that its mode says."""

Found = list[tuple[bytes, bytes, os.stat_result]]
"""Paths, the names that they have in the archive, and what they are."""


def pack(path: str, name: str = "", on_left_out: Callable[[bytes], None] | None = None) -> Iterator[bytes]:
    """Yield a tar archive of the file or directory `path`, which may be a link to it, under `name`.

    Without a name, a directory is `.` and its files stand at the top; a file has its own name. Sockets, pipes and
    devices are left out: a remark before the directory that they are in says so, and `on_left_out` is told the same.
    What goes away meanwhile is left out too. Raises `OSError`.
    """
    root = os.fsencode(path)
    status = os.stat(root)
    top = os.fsencode(name) or (b"." if stat.S_ISDIR(status.st_mode) else os.path.basename(root))
    waiting = [(root, top, status)]
    linked: dict[tuple[int, int], bytes] = {}
    out = bytearray()
    while waiting:
        place, known_as, status = waiting.pop()
        if stat.S_ISDIR(status.st_mode):
            inner = _entries(place, b"" if known_as == b"." else known_as + b"/", strict=place == root)
            for said in _special(inner):
                out += remark(said)  # never the last thing: some readers want a header to follow
                if on_left_out is not None:
                    on_left_out(said)
            out += header(known_as + b"/", status, DIRECTORY)
            waiting += inner
        elif stat.S_ISLNK(status.st_mode):
            with contextlib.suppress(FileNotFoundError):
                out += header(known_as, status, SYMLINK, link=os.readlink(place))
        elif stat.S_ISREG(status.st_mode):
            key = (status.st_dev, status.st_ino)
            if status.st_nlink > 1 and key in linked:
                out += header(known_as, status, HARD_LINK, link=linked[key])
            else:
                if status.st_nlink > 1:
                    linked[key] = known_as
                for piece in _file(place, known_as):
                    out += piece
                    if len(out) >= PIECE_BYTES:
                        yield bytes(out)
                        out.clear()
        if len(out) >= PIECE_BYTES:
            yield bytes(out)
            out.clear()
    yield bytes(out) + ENDING


def _entries(folder: bytes, prefix: bytes, *, strict: bool) -> Found:
    """Return what is in a directory, the first by name at the end; a lower one that has gone is empty."""
    found: Found = []
    try:
        names = sorted(os.listdir(folder), reverse=True)
    except FileNotFoundError:
        if strict:
            raise
        return []
    for name in names:
        place = folder + b"/" + name
        with contextlib.suppress(FileNotFoundError):
            found.append((place, prefix + name, os.lstat(place)))
    return found


def _special(found: Found) -> list[bytes]:
    """Return what to say of the entries that are not packed."""
    kinds = ((name, SPECIAL.get(stat.S_IFMT(status.st_mode))) for _, name, status in reversed(found))
    return [b"%b: %b" % (name, kind) for name, kind in kinds if kind is not None]


def _file(place: bytes, known_as: bytes) -> Iterator[bytes]:
    """Yield header and content of a file: the bytes that it had at first, zeroes for what is cut off meanwhile."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        status = os.fstat(descriptor)
        yield header(known_as, status, FILE, size=status.st_size)
        left = status.st_size
        while left:
            piece = os.read(descriptor, min(left, PIECE_BYTES)) or b"\0" * min(left, PIECE_BYTES)
            left -= len(piece)
            yield piece
        yield b"\0" * (-status.st_size % BLOCK_BYTES)
    finally:
        os.close(descriptor)
