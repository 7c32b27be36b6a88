"""What a file is, and what a directory holds."""

from __future__ import annotations

import os
import stat
from json.encoder import encode_basestring_ascii

from lohar.failures import RequestError, system_error
from lohar.operation import Operation
from lohar.wire.frames import FrameType, encode_exit
from lohar.wire.limits import LIMITS
from lohar.wire.messages import FileInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.connection import Connection
    from lohar.loop import Loop
    from lohar.wire.limits import Limits
    from lohar.wire.messages import FileListRequest

STEP = 500
"""Entries looked at in one turn of the loop: about 3 ms, which nobody at a terminal notices."""

FRAME_ROOM = 4096
"""Left free in a frame of entries: one more always fits, as a name has at most 255 bytes, of at most 6 characters each
in JSON."""


def describe(name: str, status: os.stat_result) -> FileInfo:
    """Return what a client is told about a file."""
    mode = status.st_mode
    return FileInfo(
        name=name,
        size=status.st_size,
        mode=f"{mode & 0o777:04o}",
        is_dir=stat.S_ISDIR(mode),
        mtime=int(status.st_mtime),
    )


def stat_file(path: str) -> FileInfo:
    """Describe a file; a link is followed. Raises `RequestError`."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise system_error(f"stat {path}", error) from error
    return describe(os.path.basename(path.rstrip("/")) or "/", status)


class FileList(Operation):
    """A listing under way: a slice of the directory in every turn, so that a huge one holds nobody up.

    What fits into one frame is one answer. A longer listing, and any that was asked for in chunks, is a series of
    answers that EXIT ends.
    """

    __slots__ = (
        "_folder",
        "_frames",
        "_limit",
        "_loop",
        "_names",
        "_next",
        "_part",
        "_path",
        "_room",
        "_series",
        "_size",
    )

    def __init__(self, connection: Connection, loop: Loop, request: FileListRequest, limits: Limits = LIMITS) -> None:
        super().__init__(connection)
        path = request.path
        try:
            self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except NotADirectoryError as error:
            raise RequestError(f"{path} is not a directory") from error
        except OSError as error:
            raise system_error(f"open {path}", error) from error
        try:
            self._names = sorted(os.listdir(self._folder))
        except OSError as error:
            self._close()
            raise system_error(f"read {path}", error) from error
        self._loop = loop
        self._path = path
        self._limit = len(self._names) if request.chunked else min(len(self._names), limits.list_entries)
        self._series = request.chunked
        self._room = limits.frame_length - FRAME_ROOM
        self._next = 0
        self._part: list[str] = []
        self._size = 0

    def begin(self) -> None:
        """Look at the first slice: mostly all there is."""
        self._step()

    def lost(self) -> None:
        """Stop."""
        self._close()

    def end(self) -> None:
        """Go on: the client may still be reading."""

    def drained(self) -> None:
        """Go on."""
        self._step()

    def _step(self) -> None:
        if self._folder < 0:
            return
        end = min(self._next + STEP, self._limit)
        try:
            for name in self._names[self._next : end]:
                entry = encode_entry(name, self._folder)
                if entry is not None:
                    self._add(entry)
        except OSError as error:
            # A directory that may be read but not entered, say.
            self._close()
            self.connection.fail(str(system_error(f"stat {self._path}", error)))
            return
        self._next = end
        if end == self._limit:
            self._finish()
        elif not self.connection.congested:
            self._loop.call_soon(self._step)

    def _add(self, entry: str) -> None:
        self._part.append(entry)
        self._size += len(entry) + 1
        if self._size > self._room:
            self._series = True
            self._flush()

    def _flush(self) -> None:
        self.connection.send(FrameType.FILE_LS_RESP, f"[{','.join(self._part)}]".encode("ascii"))
        self._part.clear()
        self._size = 0

    def _finish(self) -> None:
        missing = len(self._names) - self._limit
        if missing:
            text = f"... truncated at {self._limit} entries ({len(self._names)} total)"
            self._part.append(FileInfo(name=text).to_json().decode("ascii"))
        if self._part or not self._series or not self._names:
            self._flush()
        if self._series:
            self.connection.send(FrameType.EXIT, encode_exit(0))
        self._close()
        self.connection.finish()

    def _close(self) -> None:
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1


def encode_entry(name: str, folder: int) -> str | None:
    """Return the JSON of a directory's entry, or None if it has gone. A link is not followed.

    By hand: with `FileInfo.to_json` (whose output this is, the unit test compares them) a directory of 100,000 entries
    takes three times as long.
    """
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    mode = status.st_mode
    return (
        f'{{"name":{encode_basestring_ascii(name)},"size":{status.st_size},"mode":"{mode & 0o777:04o}",'
        f'"is_dir":{"true" if stat.S_ISDIR(mode) else "false"},"mtime":{int(status.st_mtime)}}}'
    )
