"""Decompress zstd with the system's libzstd, which every Debian has: dpkg needs it itself.

Only the streaming interface, stable since zstd 1.0 (zstd.h, "Streaming decompression"). A frame may ask for at most
128 MiB of memory: the library's own limit, which is left as it is.
"""

import ctypes
from collections.abc import Iterator
from functools import cache
from types import TracebackType
from typing import Self

from bhatti.errors import MissingDependency

MAGIC = b"\x28\xb5\x2f\xfd"

LIBRARY = "libzstd.so.1"

_OUT_BYTES = 1 << 20


class ZstdError(ValueError):
    """The data is not zstd, or damaged."""


class _Buffer(ctypes.Structure):
    """`ZSTD_inBuffer` and `ZSTD_outBuffer`, which differ only in const."""

    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("position", ctypes.c_size_t))


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise MissingDependency(
            f"the image is compressed with zstd, and {LIBRARY} is not on this host",
            hint="install it: apt-get install libzstd1",
        ) from error
    library.ZSTD_createDCtx.restype = ctypes.c_void_p
    library.ZSTD_freeDCtx.argtypes = (ctypes.c_void_p,)
    library.ZSTD_decompressStream.argtypes = (ctypes.c_void_p, ctypes.POINTER(_Buffer), ctypes.POINTER(_Buffer))
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    library.ZSTD_isError.argtypes = (ctypes.c_size_t,)
    library.ZSTD_getErrorName.argtypes = (ctypes.c_size_t,)
    library.ZSTD_getErrorName.restype = ctypes.c_char_p
    return library


class Decompressor:
    """One stream of frames; a context manager, as it holds memory of the library."""

    def __init__(self) -> None:
        self._library = _library()
        self._context: int | None = self._library.ZSTD_createDCtx()
        if not self._context:
            raise MemoryError
        self._out = ctypes.create_string_buffer(_OUT_BYTES)
        self.at_frame_end = True
        """Whether the stream may end here."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the library's memory."""
        self._library.ZSTD_freeDCtx(self._context)
        self._context = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take compressed bytes and yield what they unfold to, at most a MiB at a time. Raises `ZstdError`."""
        source = _Buffer(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data), 0)
        full = False
        # A full output means that there may be more even when all input has been taken.
        while source.position < source.size or full:
            if self._context is None:
                raise ZstdError("it is closed")
            target = _Buffer(ctypes.cast(self._out, ctypes.c_void_p), _OUT_BYTES, 0)
            status = self._library.ZSTD_decompressStream(self._context, ctypes.byref(target), ctypes.byref(source))
            if self._library.ZSTD_isError(status):
                raise ZstdError(self._library.ZSTD_getErrorName(status).decode())
            full = status != 0 and target.position == _OUT_BYTES
            self.at_frame_end = status == 0
            if target.position:
                yield ctypes.string_at(self._out, target.position)
