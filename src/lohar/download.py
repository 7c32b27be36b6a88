"""Reading files: whole ones as they are, parts of them by lines."""

from __future__ import annotations

import os
import stat

from lohar.failures import RequestError, system_error
from lohar.operation import Operation
from lohar.outbox import FilePart
from lohar.wire.frames import FrameType, encode, encode_all, encode_exit, header
from lohar.wire.messages import FileReadRequest, FileReadResponse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.connection import Connection
    from lohar.loop import Loop

CHUNK = 32 << 10
"""A file up to this size is read and sent in one go; the reference's size of a frame."""

PART = 512 << 10
"""Content in a frame of a larger one. Measured against a plain socket copy: 0.35 with frames of 32 KiB that are read
and written here, 0.7 with parts of 128 KiB that the kernel sends, 0.9 from 512 KiB on."""

BLOCK = 128 << 10
"""Read at once when looking for lines."""

LONG_LINE = 256 << 10
"""A line longer than this is sent before its end was seen, so that memory does not grow with it."""

EXIT_OK = encode(FrameType.EXIT, encode_exit(0))


def open_regular(path: str) -> tuple[int, os.stat_result]:
    """Open a regular file for reading. Raises `RequestError`.

    Looked at before it is opened, because opening a device or a pipe can block or have effects of its own.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise RequestError(f"{path} is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise RequestError(f"{path} is not a regular file")
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return fd, os.fstat(fd)
    except OSError as error:
        raise system_error(f"open {path}", error) from error


def read_file(connection: Connection, loop: Loop, request: FileReadRequest) -> Operation | None:
    """Answer FILE_READ_REQ: at once if the file is small, with an operation otherwise. Raises `RequestError`."""
    fd, status = open_regular(request.path)
    answer = FileReadResponse(size=status.st_size, mode=f"{status.st_mode & 0o777:04o}").to_json()
    if request.offset > 0 or request.limit > 0 or request.max_bytes > 0:
        connection.send(FrameType.FILE_READ_RESP, answer)
        return LineDownload(connection, loop, fd, request)
    if 0 < status.st_size <= CHUNK:
        try:
            data = os.read(fd, status.st_size)
        except OSError as error:
            raise system_error(f"read {request.path}", error) from error
        finally:
            os.close(fd)
        connection.send_encoded(encode(FrameType.FILE_READ_RESP, answer) + encode(FrameType.STDOUT, data) + EXIT_OK)
        return None
    connection.send(FrameType.FILE_READ_RESP, answer)
    return Download(connection, fd, status.st_size) if status.st_size else EndlessDownload(connection, fd)


class Download(Operation):
    """A whole file under way: as much as it had when it was opened. The kernel alone touches the content."""

    __slots__ = ("_fd", "_offset", "_size")

    def __init__(self, connection: Connection, fd: int, size: int) -> None:
        super().__init__(connection)
        self._fd = fd
        self._offset = 0
        self._size = size

    def begin(self) -> None:
        """Send the first part."""
        self.drained()

    def lost(self) -> None:
        """Stop."""
        os.close(self._fd)

    def drained(self) -> None:
        """Send the next part; or end, when the last has left."""
        connection = self.connection
        left = self._size - self._offset
        if left == 0:
            os.close(self._fd)
            connection.finish()
            return
        count = min(left, PART)
        connection.send_encoded(header(FrameType.STDOUT, count))
        connection.send_encoded(FilePart(self._fd, self._offset, count))
        self._offset += count
        if count == left:
            connection.send_encoded(EXIT_OK)
        connection.await_drained()


class EndlessDownload(Operation):
    """A file without size under way, as those in /proc: to its end, wherever that is."""

    __slots__ = ("_fd",)

    def __init__(self, connection: Connection, fd: int) -> None:
        super().__init__(connection)
        self._fd = fd

    def begin(self) -> None:
        """Send the first piece."""
        self.drained()

    def lost(self) -> None:
        """Stop."""
        os.close(self._fd)

    def drained(self) -> None:
        """Send the next piece."""
        connection = self.connection
        try:
            data = os.read(self._fd, CHUNK)
        except OSError as error:
            os.close(self._fd)
            connection.fail(str(system_error("read", error)))
            return
        if data:
            connection.send(FrameType.STDOUT, data)
            connection.await_drained()
        else:
            os.close(self._fd)
            connection.send_encoded(EXIT_OK)
            connection.finish()


class LineCutter:
    """Cuts the wanted lines out of a file's blocks. `done` says that no more is wanted.

    A line's CR before LF is dropped, and the last one gets an LF if it has none; `max_bytes` cuts anywhere.
    """

    def __init__(self, offset: int, limit: int, max_bytes: int) -> None:
        """Take the numbers of FILE_READ_REQ: `offset` is a line, from 1; what is not positive is unset."""
        self._skip = max(0, offset - 1)
        self._lines = limit if limit > 0 else 1 << 62
        self._bytes = max_bytes if max_bytes > 0 else 1 << 62
        self._rest = b""  # the beginning of a line whose end has not been seen
        self._begun = False  # part of that line was handed out already

    @property
    def done(self) -> bool:
        """Whether all that was wanted has been handed out."""
        return self._lines == 0 or self._bytes == 0

    def feed(self, block: bytes) -> list[bytes]:
        """Return what is wanted of the next block, a line in each piece; only a very long one comes in several."""
        start = self._skip_lines(block) if self._skip else 0
        if self._skip:
            return []
        lines = (self._rest + block[start:]).split(b"\n")
        self._rest = lines.pop()
        pieces: list[bytes] = []
        for line in lines:
            self._take(pieces, line.removesuffix(b"\r") + b"\n")
            self._begun = False
            self._lines -= 1
            if self.done:
                return pieces
        if len(self._rest) > LONG_LINE:
            # Its CR, if that is what is last, is not known to be the line's end yet.
            keep = len(self._rest) - self._rest.endswith(b"\r")
            self._take(pieces, self._rest[:keep])
            self._rest = self._rest[keep:]
            self._begun = True
        return pieces

    def end(self) -> list[bytes]:
        """Return the last line, if the file did not end with an LF."""
        pieces: list[bytes] = []
        if (self._rest or self._begun) and not self.done:
            self._take(pieces, self._rest.removesuffix(b"\r") + b"\n")
        return pieces

    def _skip_lines(self, block: bytes) -> int:
        """Skip lines; return where the first wanted one begins, if it does in this block."""
        count = block.count(b"\n")
        if count < self._skip:
            self._skip -= count
            return len(block)
        at = 0
        while self._skip:
            at = block.index(b"\n", at) + 1
            self._skip -= 1
        return at

    def _take(self, pieces: list[bytes], piece: bytes) -> None:
        if len(piece) > self._bytes:
            piece = piece[: self._bytes]
        self._bytes -= len(piece)
        if piece:
            pieces.append(piece)


class LineDownload(Operation):
    """Some lines of a file under way, each in a frame of its own (a very long one in several)."""

    __slots__ = ("_cutter", "_fd", "_loop")

    def __init__(self, connection: Connection, loop: Loop, fd: int, request: FileReadRequest) -> None:
        super().__init__(connection)
        self._loop = loop
        self._fd = fd
        self._cutter = LineCutter(request.offset, request.limit, request.max_bytes)

    def begin(self) -> None:
        """Look at the first block."""
        self.drained()

    def lost(self) -> None:
        """Stop."""
        self._close()

    def drained(self) -> None:
        """Send what the next block has."""
        connection, cutter = self.connection, self._cutter
        if self._fd < 0:
            return
        try:
            block = os.read(self._fd, BLOCK)
        except OSError as error:
            self._close()
            connection.fail(str(system_error("read", error)))
            return
        pieces = cutter.feed(block) if block else cutter.end()
        if pieces:
            connection.send_encoded(encode_all([(FrameType.STDOUT, piece) for piece in pieces]))
        if not block or cutter.done:
            self._close()
            connection.send_encoded(EXIT_OK)
            connection.finish()
        elif pieces:
            connection.await_drained()
        else:
            self._loop.call_soon(self.drained)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
