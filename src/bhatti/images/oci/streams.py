"""Layers as streams of bytes: plain, gzip or zstd, whatever their first bytes say, measured as they pass."""

import abc
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from bhatti.errors import LimitExceeded
from bhatti.images.oci import zstd
from bhatti.images.oci.digest import Verifier

READ_BYTES = 128 << 10
"""Of compressed data at a time."""

WRITE_BYTES = 1 << 20
"""Of uncompressed data at a time: a bomb unfolds in pieces of this size, and somebody counts them."""

GZIP_MAGIC = b"\x1f\x8b"


class DamagedStream(ValueError):
    """The compressed data is damaged or cut off."""


class Input(abc.ABC):
    """What a tar archive is read from."""

    @abc.abstractmethod
    def read(self, size: int, /) -> bytes:
        """Return exactly `size` bytes, fewer only at the end."""

    @abc.abstractmethod
    def skip(self, size: int, /) -> int:
        """Pass over `size` bytes; return how many there were."""


class PlainInput(Input):
    """A file that is not compressed; skipping seeks, so the file must be a regular one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int, /) -> bytes:
        """Return exactly `size` bytes, fewer only at the end."""
        return self._file.read(size)

    def skip(self, size: int, /) -> int:
        """Pass over `size` bytes; return how many there were."""
        here = self._file.tell()
        end = self._file.seek(0, io.SEEK_END)
        return self._file.seek(min(here + size, end)) - here


class UnfoldedInput(Input):
    """Something that comes in pieces, which `unfold` yields."""

    def __init__(self, unfold: Iterator[bytes]) -> None:
        self._pieces = unfold
        self._piece = b""
        self._at = 0

    def read(self, size: int, /) -> bytes:
        """Return exactly `size` bytes, fewer only at the end."""
        at = self._at
        if at + size <= len(self._piece):  # nearly always
            self._at = at + size
            return self._piece[at : at + size]
        parts = []
        while size and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def skip(self, size: int, /) -> int:
        """Pass over `size` bytes; return how many there were."""
        left = size
        while left and (part := self._some(left)):
            left -= len(part)
        return size - left

    def _some(self, size: int) -> bytes:
        """Return 1 to `size` bytes, none at the end."""
        while self._at == len(self._piece):
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._piece, self._at = piece, 0
        part = self._piece[self._at : self._at + size]
        self._at += len(part)
        return part


def unfold_gzip(file: BinaryIO) -> Iterator[bytes]:
    """Decompress gzip, also several members in a row (pigz, eStargz). Raises `DamagedStream`."""
    data = file.read(READ_BYTES)
    while data:
        decompressor = zlib.decompressobj(wbits=31)
        while True:
            try:
                piece = decompressor.decompress(data, WRITE_BYTES)
            except zlib.error as error:
                raise DamagedStream(f"its compressed data is damaged: {error}") from error
            if piece:
                yield piece
            data = decompressor.unconsumed_tail
            if decompressor.eof:
                break
            # A full piece means that there may be more of it even when all input has been taken.
            if not data and len(piece) < WRITE_BYTES:
                data = file.read(READ_BYTES)
                if not data:
                    raise DamagedStream("its compressed data ends too early")
        data = decompressor.unused_data.lstrip(b"\0") or file.read(READ_BYTES)  # zeroes: padding of tapes


class Window(io.RawIOBase):
    """A part of a file as a file of its own, so that members of an archive need not be copied out of it."""

    def __init__(self, descriptor: int, start: int, size_bytes: int) -> None:
        super().__init__()
        self._descriptor = os.dup(descriptor)
        self._start = start
        self._size_bytes = size_bytes
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Read into `buffer`."""
        size = min(len(buffer), max(0, self._size_bytes - self._at))
        data = os.pread(self._descriptor, size, self._start + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to `offset`."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def close(self) -> None:
        """Free the descriptor."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()


class MeasuredInput(Input):
    """Passes on what it reads, and lets `verifier` see and `on_bytes` count all of it."""

    def __init__(self, source: Input, verifier: Verifier, on_bytes: Callable[[int], None]) -> None:
        self._source = source
        self._verifier = verifier
        self._on_bytes = on_bytes

    def read(self, size: int, /) -> bytes:
        """Return exactly `size` bytes, fewer only at the end."""
        data = self._source.read(size)
        self._verifier.update(data)
        self._on_bytes(len(data))
        return data

    def skip(self, size: int, /) -> int:
        """Read `size` bytes and forget them: the digest is that of everything."""
        left = size
        while left and (data := self.read(min(left, WRITE_BYTES))):
            left -= len(data)
        return size - left

    def drain(self) -> None:
        """Read to the end: after an archive there may be padding, which belongs to the digest."""
        while self.read(WRITE_BYTES):
            pass


@contextmanager
def open_stream(file: BinaryIO) -> Iterator[Input]:
    """Yield the contents of `file`, from its beginning, decompressed if they are compressed.

    Reading raises `DamagedStream`. Raises `MissingDependency` for zstd without its library.
    """
    file.seek(0)
    magic = file.read(4)
    file.seek(0)
    if magic[:2] == GZIP_MAGIC:
        yield UnfoldedInput(unfold_gzip(file))
    elif magic == zstd.MAGIC:
        with zstd.Decompressor() as decompressor:
            yield UnfoldedInput(unfold_zstd(file, decompressor))
    else:
        yield PlainInput(file)


def unfold_zstd(file: BinaryIO, decompressor: zstd.Decompressor) -> Iterator[bytes]:
    """Decompress zstd, also several frames in a row. Raises `DamagedStream`."""
    try:
        while data := file.read(READ_BYTES):
            yield from decompressor.feed(data)
    except zstd.ZstdError as error:
        raise DamagedStream(f"its compressed data is damaged: {error}") from error
    if not decompressor.at_frame_end:
        raise DamagedStream("its compressed data ends too early")


def too_large(what: str, limit_bytes: int) -> LimitExceeded:
    """Return the error for an image that unfolds beyond all measure."""
    return LimitExceeded(
        f"{what} is larger than {limit_bytes >> 20} MiB when unpacked",
        hint="if you trust it, raise the limit; otherwise it may be a bomb",
        code="image-too-large",
    )
