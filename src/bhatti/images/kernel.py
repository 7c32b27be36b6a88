"""The guest's kernel: Debian's stock cloud kernel, unpacked from its package and never installed.

`vmlinux` is taken out of the bzImage, because booting an uncompressed kernel through PVH skips the real-mode stub and
the decompressor, which under software emulation would take seconds.
"""

import bz2
import gzip
import lzma
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

from bhatti.errors import CorruptData
from bhatti.images import lz4
from bhatti.images.programs import find_program

MAX_KERNEL_BYTES = 512 << 20
"""Debian's cloud kernel unpacks to about 60 MB; this bounds a broken or hostile stream."""

Report = Callable[[int, int], None]

_SETUP_SECTS = 0x1F1
_HEADER_MAGIC = slice(0x202, 0x206)
_PAYLOAD_OFFSET = slice(0x248, 0x24C)
_PAYLOAD_LENGTH = slice(0x24C, 0x250)


def extract_vmlinux(bzimage: bytes, *, on_progress: Report | None = None) -> bytes:
    """Return the ELF kernel inside a bzImage.

    The setup header (Documentation/arch/x86/boot.rst, protocol 2.08 or newer) says where the compressed payload is.
    Raises `CorruptData` when there is no such header, no known compression, or no ELF file within, and
    `MissingDependency` for a zstd kernel without the `zstd` program.
    """
    if len(bzimage) < 0x260 or bzimage[_HEADER_MAGIC] != b"HdrS":
        raise CorruptData("not a Linux bzImage: the setup header is missing")
    setup_bytes = (1 + (bzimage[_SETUP_SECTS] or 4)) * 512
    start = setup_bytes + int.from_bytes(bzimage[_PAYLOAD_OFFSET], "little")
    length = int.from_bytes(bzimage[_PAYLOAD_LENGTH], "little")
    payload = bzimage[start : start + length]
    if len(payload) != length or length < 16:
        raise CorruptData(f"bzImage is cut short: its payload should end at byte {start + length}")
    kernel = decompress(payload, on_progress=on_progress)
    if not kernel.startswith(b"\x7fELF"):
        raise CorruptData("the payload of the bzImage is not an ELF kernel")
    return kernel


def decompress(payload: bytes, *, on_progress: Report | None = None) -> bytes:
    """Decompress a kernel payload of any kind that Debian's kernels have used; trailing bytes are ignored."""
    try:
        if payload.startswith(lz4.LEGACY_MAGIC):
            return lz4.decode_legacy(payload, max_bytes=MAX_KERNEL_BYTES, on_progress=on_progress)
        if payload.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(wbits=31).decompress(payload, MAX_KERNEL_BYTES)
        if payload.startswith(b"\xfd7zXZ\0"):
            return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload, MAX_KERNEL_BYTES)
        if payload.startswith(b"\x5d\0\0"):
            return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload, MAX_KERNEL_BYTES)
        if payload.startswith(b"BZh"):
            return bz2.BZ2Decompressor().decompress(payload, MAX_KERNEL_BYTES)
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError) as error:
        raise CorruptData(f"the kernel's payload cannot be decompressed: {error}") from error
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return _decompress_zstd(payload)
    raise CorruptData(f"the kernel is compressed in an unknown way (it begins with {payload[:6].hex()})")


def _decompress_zstd(payload: bytes) -> bytes:
    # The kernel appends 4 bytes of size to the frame; zstd complains about them after writing everything.
    done = subprocess.run([find_program("zstd"), "-dcq"], input=payload[:-4], capture_output=True, check=False)
    if done.returncode != 0:
        raise CorruptData(f"the kernel's payload cannot be decompressed: {done.stderr.decode(errors='replace')}")
    return done.stdout


def kernel_release(modules_root: Path) -> str:
    """Return the one kernel release that has modules below `modules_root` (`…/lib/modules`)."""
    releases = sorted(path.name for path in modules_root.iterdir() if path.is_dir())
    if len(releases) != 1:
        raise CorruptData(f"expected the modules of one kernel in {modules_root}, found {releases}")
    return releases[0]
