"""The client's side of WebSockets (RFC 6455), without I/O: exactly what the daemon's sockets need.

The `websockets` package does all of the protocol and costs 100 ms of imports, twice what a whole `bhatti exec` takes.
"""

import binascii
import os
import struct
from collections.abc import Iterator

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
CONTINUATION = 0x0

MAX_MESSAGE_BYTES = 16 << 20
"""The daemon sends at most a frame of the guest's wire at a time, 1 MiB."""

NO_MASK = b"\0\0\0\0"
"""Masks keep scripts in browsers from confusing old proxies. We are no browser, the server must accept any mask, and
with this one masking leaves the bytes as they are: a pipeline of gigabytes need not be XORed in Python."""


class SocketViolation(ValueError):
    """What came is not a frame that a server may send."""


def handshake() -> list[tuple[str, str]]:
    """Return the headers that ask for a WebSocket.

    The answer's `Sec-WebSocket-Accept` is not compared: it would tell a server that repeats requests from one that
    understands them, and 101 from our own daemon does that already.
    """
    key = binascii.b2a_base64(os.urandom(16), newline=False).decode()
    return [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key)]


def frame(opcode: int, payload: bytes) -> bytes:
    """Return `payload` as one whole message of a client."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return b"".join((head, NO_MASK, payload))


class FrameReader:
    """Messages out of bytes. Pings are among them: whoever reads answers them."""

    def __init__(self, rest: bytes = b"") -> None:
        self._buffer = bytearray(rest)
        self._parts: list[bytes] = []
        self._opcode = 0

    def feed(self, data: bytes) -> None:
        """Take bytes that came."""
        self._buffer += data

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """Yield the messages that are complete, as opcode and payload; raises `SocketViolation`."""
        while (found := self._frame()) is not None:
            final, opcode, payload = found
            if opcode >= CLOSE:
                if not final or len(payload) > 125:
                    raise SocketViolation("a control frame is cut in parts or too long")
                yield opcode, payload
                continue
            if (opcode == CONTINUATION) != bool(self._opcode):
                raise SocketViolation("a message begins inside another, or goes on without a beginning")
            self._opcode = self._opcode or opcode
            self._parts.append(payload)
            if sum(map(len, self._parts)) > MAX_MESSAGE_BYTES:
                raise SocketViolation(f"a message is longer than {MAX_MESSAGE_BYTES} bytes")
            if final:
                yield self._opcode, b"".join(self._parts)
                self._parts, self._opcode = [], 0

    def _frame(self) -> tuple[bool, int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, size, offset = buffer[0], buffer[1], 2
        if size & 0x80 or first & 0x70:
            raise SocketViolation("a server's frame is masked, or has bits set that nobody agreed on")
        if size >= 126:
            wide = "!H" if size == 126 else "!Q"
            offset += struct.calcsize(wide)
            if len(buffer) < offset:
                return None
            (size,) = struct.unpack_from(wide, buffer, 2)
            if size > MAX_MESSAGE_BYTES:
                raise SocketViolation(f"a frame is longer than {MAX_MESSAGE_BYTES} bytes")
        if len(buffer) < offset + size:
            return None
        payload = bytes(buffer[offset : offset + size])
        del buffer[: offset + size]
        return bool(first & 0x80), first & 0x0F, payload
