"""The fields of tar headers, and the error for an archive that breaks its format."""

import re

BLOCK_BYTES = 512

_OCTAL = re.compile(rb"[0-7]+")


class MalformedTar(ValueError):
    """The archive breaks its format, or passes a limit; the message says where."""


def parse_number(raw: bytes) -> int:
    """Read a number of a header: octal digits, or binary (GNU) if its first bit is set. Raises `MalformedTar`."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big") & ((1 << (8 * len(raw) - 1)) - 1)
        return value - (1 << (8 * len(raw) - 1)) if raw[0] & 0x40 else value
    digits = raw.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    if not _OCTAL.fullmatch(digits):
        raise MalformedTar(f"{raw!r} is not an octal number")
    return int(digits, 8)


def parse_text(raw: bytes) -> bytes:
    """Read a name, which ends with the field or before its first NUL."""
    return raw.partition(b"\0")[0]


def check_sum(block: bytes) -> None:
    """Raise `MalformedTar` unless the header has the checksum that it says; its own bytes count as blanks."""
    promised = block[148:156].partition(b"\0")[0].strip(b" ")
    counted = block[:148] + b" " * 8 + block[156:]
    found = sum(counted)
    # Some old tools added the bytes as signed ones.
    if not _OCTAL.fullmatch(promised) or (
        int(promised, 8) != found and int(promised, 8) != found - 256 * sum(byte > 127 for byte in counted)
    ):
        raise MalformedTar("this is not a tar archive, or it is damaged: a header's checksum is wrong")


def shown(name: bytes) -> str:
    """Return a name from an archive as it can be shown to people: on one line, not too long."""
    decoded = name.decode("utf-8", "backslashreplace")
    safe = "".join(c if c.isprintable() else repr(c)[1:-1] for c in decoded)
    return safe if len(safe) <= 200 else f"{safe[:197]}..."
