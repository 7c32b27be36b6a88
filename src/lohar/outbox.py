"""What waits to be sent on a socket: bytes, and parts of files that never come into this process."""

from __future__ import annotations

import errno
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

JOIN_SIZE = 16 << 10
"""Up to here several pieces are cheaper joined and sent at once than sent by vector."""

MAX_VECTORS = 64
"""Pieces in one sendmsg: far below the kernel's 1024, far above what is worth a call of its own."""

READ_SIZE = 128 << 10
"""Read at once of a file that the kernel cannot send by itself."""

_MORE = getattr(socket, "MSG_MORE", 0)
"""Keeps TCP from sending the header of a part in a packet of its own; not every system has it."""

_CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOTSOCK})
"""What sendfile says of files or sockets that it does not do."""


class FilePart:
    """`left` bytes of the file `fd` from `offset` on. The file stays open as long as this is in an outbox."""

    __slots__ = ("fd", "left", "offset")

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self.fd = fd
        self.offset = offset
        self.left = size

    def __len__(self) -> int:
        return self.left


class Outbox:
    """A queue of pieces; `size` counts the bytes in it."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes | memoryview | FilePart] = []
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, piece: bytes | memoryview | FilePart) -> None:
        """Append a piece. Memory must not change, and a file must not be closed, until it has been sent."""
        self._pieces.append(piece)
        self.size += len(piece)

    def clear(self) -> None:
        """Forget everything."""
        self._pieces.clear()
        self.size = 0

    def write(self, sock: socket.socket) -> None:
        """Send what the socket takes in one or two calls.

        Raises what sending raises (`BlockingIOError` when it takes nothing), and `EOFError` when a file has become too
        short for the part of it that was promised.
        """
        pieces = self._pieces
        if len(pieces) == 1 and type(pieces[0]) is bytes:
            # By far the most frequent: one answer, which fits.
            piece = pieces[0]
            sent = sock.send(piece)
            self.size -= sent
            if sent == len(piece):
                pieces.clear()
            else:
                pieces[0] = memoryview(piece)[sent:]
            return
        count = next((index for index, piece in enumerate(pieces) if type(piece) is FilePart), len(pieces))
        if count and not self._send(sock, pieces[:count], more=count < len(pieces)):  # type: ignore[arg-type]
            return
        if pieces and isinstance(pieces[0], FilePart):
            self._send_part(sock, pieces[0])

    def _send(self, sock: socket.socket, pieces: Sequence[bytes | memoryview], *, more: bool) -> bool:
        """Send the first pieces; True if all of them have gone."""
        flags = _MORE if more else 0
        if len(pieces) == 1:
            sent = sock.send(pieces[0], flags)
        elif self.size <= JOIN_SIZE:
            sent = sock.send(b"".join(pieces), flags)
        else:
            sent = sock.sendmsg(pieces[:MAX_VECTORS], (), flags)
        self.size -= sent
        done = 0
        while done < len(pieces) and sent >= len(pieces[done]):
            sent -= len(pieces[done])
            done += 1
        if sent:
            self._pieces[done] = memoryview(pieces[done])[sent:]
        del self._pieces[:done]
        return done == len(pieces)

    def _send_part(self, sock: socket.socket, part: FilePart) -> None:
        try:
            sent = os.sendfile(sock.fileno(), part.fd, part.offset, part.left)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            sent = sock.send(os.pread(part.fd, min(part.left, READ_SIZE), part.offset))
        if sent == 0:
            raise EOFError(f"the file ended {part.left} bytes too early")
        self.size -= sent
        part.offset += sent
        part.left -= sent
        if part.left == 0:
            del self._pieces[0]
