"""Frames: the byte layout of everything that crosses the wire.

    u32 length, big-endian | u8 type | payload        length = 1 + len(payload), at most `Limits.frame_length`

No input or output happens here. Shells read bytes, `feed` them, and act on `frames()`; they send what `encode` returns
in one write. Ports, types and payload layouts are those of the reference protocol, with our additions.
"""

from __future__ import annotations

import enum
import struct

from lohar.wire.limits import LIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

    Buffer = bytes | bytearray | memoryview

CONTROL_PORT = 1024
FORWARD_PORT = 1025

LENGTH_SIZE = 4
HEADER_SIZE = 5
"""Length and type."""


class FrameType(enum.IntEnum):
    """Every type byte. An unknown one is no frame error: the agent answers it with `unexpected frame type 0xNN`."""

    STDIN = 0x01
    STDOUT = 0x02
    STDERR = 0x03
    RESIZE = 0x04
    EXIT = 0x05
    ERROR = 0x06
    KILL = 0x07
    EXEC_REQ = 0x10
    AUTH = 0x11
    CONFIG_REQ = 0x12
    CONFIG_RESP = 0x13
    IDENTITY_REQ = 0x14
    IDENTITY_RESP = 0x15
    RESUMED_REQ = 0x16
    RESUMED_RESP = 0x17
    SYNC_REQ = 0x18
    SYNC_RESP = 0x19
    FWD_REQ = 0x20
    FWD_RESP = 0x21
    EXEC_LIST_REQ = 0x30
    EXEC_LIST_RESP = 0x31
    EXEC_KILL = 0x32
    SESSION_INFO = 0x33
    ACTIVITY_REQ = 0x40
    ACTIVITY_RESP = 0x41
    FACTS_REQ = 0x42
    FACTS_RESP = 0x43
    FILE_READ_REQ = 0x50
    FILE_READ_RESP = 0x51
    FILE_WRITE_REQ = 0x52
    FILE_WRITE_RESP = 0x53
    FILE_STAT_REQ = 0x54
    FILE_STAT_RESP = 0x55
    FILE_LS_REQ = 0x56
    FILE_LS_RESP = 0x57
    FILE_WATCH_REQ = 0x58
    FILE_WATCH_EVENT = 0x59
    SYSTEMCTL_REQ = 0x60
    SYSTEMCTL_RESP = 0x61
    HELLO_REQ = 0x70
    HELLO_RESP = 0x71


DATA_TYPES = frozenset((0x01, 0x02, 0x03))
"""STDIN, STDOUT, STDERR: where their frames begin and end means nothing, but for an empty one. Plain numbers, because
a member of an enumeration is five times as slow to hash."""

BULK = 16 << 10
"""From this size on it pays to cut views out of what was read and to copy only the payloads."""


class FrameError(Exception):
    """The byte stream is not a sequence of frames; the connection that carried it cannot be used any more."""


class FrameTooLarge(FrameError):
    """A length field, or a payload to be sent, is above the limit."""


class EmptyFrame(FrameError):
    """A length field of zero: there is not even a type."""


class UnexpectedEOF(FrameError):
    """The stream ended inside a frame."""


_HEADER = struct.Struct(">IB")
_RESIZE = struct.Struct(">HH")
_EXIT = struct.Struct(">i")
_unpack_header = _HEADER.unpack_from


def header(kind: int, size: int, *, max_length: int = LIMITS.frame_length) -> bytes:
    """Return the five bytes before a payload of `size` bytes, for shells that send the payload from elsewhere.

    Raises `FrameTooLarge` when the frame would be above `max_length`.
    """
    if size >= max_length:
        raise FrameTooLarge(f"payload of {size} bytes, at most {max_length - 1} fit into a frame")
    return _HEADER.pack(size + 1, kind)


def encode(kind: int, payload: Buffer = b"", *, max_length: int = LIMITS.frame_length) -> bytes:
    """Return one frame. Raises `FrameTooLarge` when it would be above `max_length` (length field, in bytes)."""
    size = len(payload)
    if size >= max_length:
        raise FrameTooLarge(f"payload of {size} bytes, at most {max_length - 1} fit into a frame")
    return _HEADER.pack(size + 1, kind) + payload


def try_parse(buffer: Buffer, *, max_length: int = LIMITS.frame_length) -> tuple[int, int, int] | None:
    """Look for one frame at the start of `buffer`: (type, where its payload starts, its total size), or None.

    None means that the frame is incomplete or impossible (length 0 or above `max_length`). What follows the frame is
    ignored.
    """
    if len(buffer) < HEADER_SIZE:
        return None
    length, kind = _unpack_header(buffer)
    if not 1 <= length <= max_length or len(buffer) < 4 + length:
        return None
    return kind, HEADER_SIZE, 4 + length


class FrameParser:
    """Cuts a byte stream into frames, however it was chunked.

    Complete frames come out of `frames()` in order. A broken length raises at the frame that has it, after the good
    frames before it were handed out, and at every call from then on. `max_length` bounds the length field and so the
    memory that a peer can make us hold.

    With `pieces`, frames of the types in `DATA_TYPES` are handed out as they arrive, in several pieces if need be, none
    of them empty unless the frame is: whoever strings their payloads together anyway gets them sooner and with one
    copy less.
    """

    __slots__ = ("_chunks", "_error", "_held", "_kind", "_left", "_max_length", "_needed", "_pieces")

    def __init__(self, *, max_length: int = LIMITS.frame_length, pieces: bool = False) -> None:
        self._max_length = max_length
        self._pieces = pieces
        self._chunks: list[Buffer] = []
        self._held = 0  # bytes in _chunks
        self._needed = LENGTH_SIZE  # bytes that must be held for anything to come out, as far as is known
        self._left = 0  # bytes still to come of the frame whose first pieces are out
        self._kind = 0  # its type
        self._error: FrameError | None = None

    @property
    def buffered(self) -> int:
        """Bytes fed and not yet handed out as frames."""
        return self._held

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return self._held > 0 or self._left > 0

    def feed(self, data: Buffer) -> None:
        """Take the next bytes of the stream. A mutable buffer must stay as it is until `frames()` was called."""
        if data:
            self._chunks.append(data)
            self._held += len(data)

    def feed_eof(self) -> None:
        """Say that the stream has ended. Raises `UnexpectedEOF` inside a frame; between frames it is a clean end."""
        if self._error is None and self.inside:
            raise UnexpectedEOF(f"stream ended inside a frame, {self._held} bytes into it")

    def frames(self) -> list[tuple[int, bytes]]:
        """Return all complete frames as (type, payload). Raises `FrameError` for an impossible length."""
        chunks = self._chunks
        if self._error is not None:
            return self._refuse(self._error)
        if self._held < self._needed:
            # Large payloads wait here as a list of chunks: joined once, when the last byte is there.
            if chunks and type(chunks[-1]) is not bytes:
                chunks[-1] = bytes(chunks[-1])
            return []
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        size = len(data)
        if size < BULK and type(data) is not bytes:
            data = bytes(data)  # many small slices of bytes are cheaper than of a view
        limit = self._max_length
        unpack = _unpack_header
        result: list[tuple[int, Buffer]] = []
        append = result.append
        start = 0
        if self._left:
            start = min(self._left, size)
            self._left -= start
            append((self._kind, data[:start]))
        body = start + HEADER_SIZE
        while body <= size:
            length, kind = unpack(data, start)
            end = body - 1 + length
            if end > size or not 0 < length <= limit:
                if self._pieces and kind in DATA_TYPES and body < size and 0 < length <= limit:
                    append((kind, data[body:]))
                    self._kind, self._left = kind, end - size
                    start = size
                break
            append((kind, data[body:end]))
            start = end
            body = end + HEADER_SIZE
        error = self._error = self._keep(bytes(data[start:]))
        if error is not None and not result:
            return self._refuse(error)
        # Bulk data was cut as views, so that each byte is copied once, here.
        return result if type(data) is bytes else [(kind, bytes(part)) for kind, part in result]  # type: ignore[return-value]

    def _keep(self, rest: bytes) -> FrameError | None:
        """Hold the beginning of the next frame; return what is wrong with its length, if anything is."""
        self._held = len(rest)
        self._chunks = [rest] if rest else []
        if len(rest) < LENGTH_SIZE:
            self._needed = 1 if self._left else LENGTH_SIZE
            return None
        length = int.from_bytes(rest[:LENGTH_SIZE], "big")
        if length == 0:
            return EmptyFrame("length field is 0, there is no type byte")
        if length > self._max_length:
            return FrameTooLarge(f"length field is {length}, at most {self._max_length} are allowed")
        self._needed = LENGTH_SIZE + length
        if self._pieces and (len(rest) < HEADER_SIZE or rest[LENGTH_SIZE] in DATA_TYPES):
            self._needed = min(self._needed, HEADER_SIZE + 1)  # a part of its payload can be handed out
        return None

    def _refuse(self, error: FrameError) -> NoReturn:
        self._chunks.clear()
        self._held = 0
        raise error


def encode_resize(rows: int, cols: int) -> bytes:
    """Return the payload of RESIZE; both are 0 to 65535."""
    return _RESIZE.pack(rows, cols)


def parse_resize(payload: Buffer) -> tuple[int, int] | None:
    """Return (rows, cols), or None if the payload is shorter than 4 bytes. What follows is ignored."""
    if len(payload) < _RESIZE.size:
        return None
    rows, cols = _RESIZE.unpack_from(payload)
    return rows, cols


def encode_exit(code: int, detail: bytes = b"") -> bytes:
    """Return the payload of EXIT: a signed 32-bit code, and `detail` (JSON of `ExitInfo`) for who asked for it."""
    return _EXIT.pack(code) + detail


def parse_exit(payload: Buffer) -> tuple[int, bytes] | None:
    """Return (code, detail), or None if the payload is shorter than 4 bytes. Detail is empty from an older agent."""
    if len(payload) < _EXIT.size:
        return None
    return _EXIT.unpack_from(payload)[0], bytes(payload[_EXIT.size :])


def unexpected(kind: int) -> str:
    """Return the words with which a peer refuses a type that it does not know or expect; clients look for them."""
    return f"unexpected frame type 0x{kind:02x}"


def is_unexpected(message: str, kind: int) -> bool:
    """Tell whether an ERROR's text says that the peer does not know the type `kind`, that is: is too old for it."""
    return "unexpected frame type" in message and f"0x{kind:02x}" in message.lower()


def encode_all(frames: Iterable[tuple[int, Buffer]], *, max_length: int = LIMITS.frame_length) -> bytes:
    """Return several frames as one string of bytes, for one write."""
    return b"".join([encode(kind, payload, max_length=max_length) for kind, payload in frames])
