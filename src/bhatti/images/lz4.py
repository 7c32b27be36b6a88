"""LZ4 decoding in plain Python, for one purpose: Debian compresses its kernels with it.

The "legacy" container of the Linux kernel: magic, then blocks of a 32-bit little-endian length and that many bytes,
each at most 8 MiB decoded. Source: lz4 block format and frame format descriptions of the LZ4 project. A kernel takes
two seconds once per version, which is not worth a dependency.
"""

from collections.abc import Callable

from bhatti.errors import CorruptData

LEGACY_MAGIC = b"\x02\x21\x4c\x18"
MAX_BLOCK_BYTES = 8 << 20


def decode_legacy(data: bytes, *, max_bytes: int, on_progress: Callable[[int, int], None] | None = None) -> bytes:
    """Decode a legacy LZ4 stream that begins at the start of `data` and ends where no block can follow.

    `max_bytes` bounds the result. `on_progress` is told (bytes read, bytes in all). Raises `CorruptData`.
    """
    if not data.startswith(LEGACY_MAGIC):
        raise CorruptData("not an LZ4 legacy stream: the magic number is missing")
    out = bytearray()
    position = len(LEGACY_MAGIC)
    while position + 4 <= len(data):
        size = int.from_bytes(data[position : position + 4], "little")
        end = position + 4 + size
        # The kernel's build appends the unpacked size after the last block: 4 bytes that are no block.
        if size == 0 or end > len(data) or size > MAX_BLOCK_BYTES + (MAX_BLOCK_BYTES >> 7) + 64:
            break
        try:
            out += decode_block(data[position + 4 : end], max_bytes=MAX_BLOCK_BYTES)
        except IndexError as error:
            raise CorruptData(f"LZ4 block at byte {position} ends in the middle of a sequence") from error
        if len(out) > max_bytes:
            raise CorruptData(f"LZ4 stream holds more than {max_bytes} bytes")
        position = end
        if on_progress is not None:
            on_progress(position, len(data))
    return bytes(out)


def decode_block(block: bytes, *, max_bytes: int) -> bytearray:
    """Decode one LZ4 block; raises `CorruptData`, or `IndexError` when it is cut short."""
    out = bytearray()
    position, end = 0, len(block)
    while position < end:
        token = block[position]
        position += 1
        literals = token >> 4
        if literals == 15:
            extra = 255
            while extra == 255:
                extra = block[position]
                position += 1
                literals += extra
        if literals:
            if position + literals > end:
                raise CorruptData("LZ4 literals run past the end of their block")
            out += block[position : position + literals]
            position += literals
        if position >= end:
            break  # the last sequence has literals only
        offset = block[position] | block[position + 1] << 8
        position += 2
        length = (token & 15) + 4
        if length == 19:
            extra = 255
            while extra == 255:
                extra = block[position]
                position += 1
                length += extra
        start = len(out) - offset
        if offset == 0 or start < 0 or len(out) + length > max_bytes:
            raise CorruptData("LZ4 match refers to bytes that do not exist")
        if offset >= length:
            out += out[start : start + length]
        else:  # an overlapping match repeats its own output
            out += (out[start:] * (length // offset + 1))[:length]
    return out
