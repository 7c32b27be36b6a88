"""Write cpio archives in the "newc" format that the kernel unpacks as its initramfs.

Source: Documentation/driver-api/early-userspace/buffer-format.rst. Reproducible: no times, owner root, inodes counted.
"""

from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """File type bits of the mode word (stat(2))."""

    FILE = 0o100000
    DIRECTORY = 0o040000
    SYMLINK = 0o120000
    CHAR_DEVICE = 0o020000


@dataclass(frozen=True, slots=True)
class Entry:
    """One member; `path` is relative to the archive's root, `device` is (major, minor) for a device node."""

    path: str
    kind: Kind
    mode: int = 0o755
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def pack(entries: list[Entry]) -> bytes:
    """Return the archive of `entries`, in the order given: directories must come before what is in them."""
    out = bytearray()
    for inode, entry in enumerate(entries, start=1):
        _append(out, entry, inode)
    _append(out, Entry("TRAILER!!!", Kind.FILE, mode=0), 0, trailer=True)
    out += bytes(-len(out) % 512)
    return bytes(out)


def _append(out: bytearray, entry: Entry, inode: int, *, trailer: bool = False) -> None:
    name = entry.path.encode() + b"\0"
    mode = 0 if trailer else entry.kind | entry.mode
    links = 2 if entry.kind is Kind.DIRECTORY else 1
    major, minor = entry.device
    fields = (inode, mode, 0, 0, links, 0, len(entry.data), 0, 0, major, minor, len(name), 0)
    out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
    out += bytes(-len(out) % 4)
    out += entry.data
    out += bytes(-len(out) % 4)
