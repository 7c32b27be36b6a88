"""Read an ext4 file system out of a plain file: no mounting, no loop device, no root.

Docker takes images as tar archives, and ours are file systems. debugfs could unpack them, but loses setuid bits, hard
links and capabilities, and needs root to keep owners. Read here is what `bhatti.images.ext4` writes, extents and 64-bit
included; anything else is refused rather than guessed. Source: Documentation/filesystems/ext4 of the Linux kernel.
"""

import mmap
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bhatti.errors import CorruptData

ROOT_INODE = 2
MAGIC = 0xEF53
EXTENT_MAGIC = 0xF30A
XATTR_MAGIC = 0xEA020000

INCOMPATIBLE = {
    0x2: "filetype", 0x40: "extents", 0x80: "64bit", 0x200: "flex_bg", 0x2000: "csum_seed", 0x4000: "large_dir",
}  # fmt: skip
"""Features without which reading goes wrong, of those that are understood here."""

FLAG_EXTENTS = 0x80000
FLAG_64BIT = 0x80
UNWRITTEN = 32768
"""Extents longer than this are allocated but not written: they read as zeros."""

FAST_LINK_BYTES = 60
MAX_EXTENT_DEPTH = 5
XATTR_PREFIXES = {1: "user.", 4: "trusted.", 6: "security."}
"""Access lists (2, 3) are left out: tar has no standard way to carry them, and images have none."""


class NotReadable(CorruptData):
    """The file is not an ext4 file system, is damaged, or uses what is not understood here."""

    code = "image-corrupt"

    def __init__(self, problem: str) -> None:
        super().__init__(f"not a readable ext4 image: {problem}", hint="make it again: bhatti image build")


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of blocks of a file: `count` from its block `logical` on are at `physical` (0: they read as zeros)."""

    logical: int
    count: int
    physical: int


@dataclass(frozen=True, slots=True)
class Inode:
    """A file of any kind. `mode` has kind and permissions as stat(2); `device` is (major, minor) of device nodes."""

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    links: int
    flags: int
    blocks: bytes
    xattr_block: int
    body: bytes

    @property
    def device(self) -> tuple[int, int]:
        """Major and minor number of a device node, in the old or the new encoding."""
        old, new = struct.unpack_from("<II", self.blocks)
        if old:
            return old >> 8 & 0xFF, old & 0xFF
        return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00


class Ext4:
    """A file system in the file at `path`, as a context manager. Methods raise `NotReadable`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        with self._path.open("rb") as file:
            try:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:
                raise NotReadable("the file is empty") from None
        try:
            self._read_superblock()
        except BaseException:
            self._data.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._data.close()

    def inode(self, number: int) -> Inode:
        """Return an inode by number."""
        if not 1 <= number <= self._inodes:
            raise NotReadable(f"inode {number} does not exist")
        group, index = divmod(number - 1, self._inodes_per_group)
        raw = self._bytes(self._inode_table(group) * self._block + index * self._inode_size, self._inode_size)
        mode, uid, size, mtime, gid, links, flags = struct.unpack_from("<HHI8xI4xHH4xI", raw)
        size_high, acl_high, uid_high, gid_high = struct.unpack_from("<I6xH2H", raw, 0x6C)
        acl = struct.unpack_from("<I", raw, 0x68)[0]
        return Inode(
            number=number,
            mode=mode,
            uid=uid | uid_high << 16,
            gid=gid | gid_high << 16,
            size=size | size_high << 32,
            mtime=mtime,
            links=links,
            flags=flags,
            blocks=raw[0x28:0x64],
            xattr_block=acl | acl_high << 32,
            body=raw,
        )

    def content(self, inode: Inode, *, piece_bytes: int = 1 << 20) -> Iterator[bytes]:
        """Yield a file's bytes in pieces of at most `piece_bytes`."""
        position = 0
        for extent in self._extents(inode):
            start = extent.logical * self._block
            if start < position:
                raise NotReadable(f"the extents of inode {inode.number} overlap")
            yield from _zeros(min(start, inode.size) - position, piece_bytes)
            position = max(position, min(start, inode.size))
            length = min(extent.count * self._block, inode.size - position)
            if extent.physical == 0:
                yield from _zeros(length, piece_bytes)
            else:
                for offset in range(0, length, piece_bytes):
                    yield self._bytes(extent.physical * self._block + offset, min(piece_bytes, length - offset))
            position += max(length, 0)
        yield from _zeros(inode.size - position, piece_bytes)

    def entries(self, directory: Inode) -> list[tuple[bytes, int]]:
        """Return name and inode of each entry of a directory but `.` and `..`, sorted by name."""
        if directory.size > 1 << 30:
            raise NotReadable(f"directory {directory.number} claims {directory.size} bytes")
        found = []
        data = b"".join(self.content(directory))
        # Each block is a list of its own; the blocks of an index (dir_index) look like one empty entry.
        for block in range(0, len(data), self._block):
            position, end = block, min(block + self._block, len(data))
            while position + 8 <= end:
                number, length, name_length = struct.unpack_from("<IHB", data, position)
                if length < 8 + name_length or position + length > end:
                    raise NotReadable(f"directory {directory.number} has an entry that does not fit")
                name = data[position + 8 : position + 8 + name_length]
                if number and name not in (b".", b".."):
                    if not name or b"/" in name or b"\0" in name:
                        raise NotReadable(f"directory {directory.number} has an entry {name!r}")
                    found.append((name, number))
                position += length
        return sorted(found)

    def link_target(self, inode: Inode) -> bytes:
        """Return what a symbolic link points to."""
        if inode.size < FAST_LINK_BYTES and not inode.flags & FLAG_EXTENTS:
            return inode.blocks[: inode.size]
        if inode.size > 4096:
            raise NotReadable(f"the symbolic link {inode.number} claims {inode.size} bytes")
        return b"".join(self.content(inode))

    def xattrs(self, inode: Inode) -> dict[str, bytes]:
        """Return the extended attributes that a tar archive can carry."""
        found: dict[str, bytes] = {}
        if self._inode_size > 128:
            start = 128 + struct.unpack_from("<H", inode.body, 0x80)[0]
            if start + 4 <= len(inode.body) and struct.unpack_from("<I", inode.body, start)[0] == XATTR_MAGIC:
                found |= _xattrs(inode.body[start + 4 :], 0)
        if inode.xattr_block:
            block = self._bytes(inode.xattr_block * self._block, self._block)
            if struct.unpack_from("<I", block)[0] != XATTR_MAGIC:
                raise NotReadable(f"the attributes of inode {inode.number} are damaged")
            found |= _xattrs(block, 32)
        return found

    def _read_superblock(self) -> None:
        raw = self._bytes(1024, 1024)
        if struct.unpack_from("<H", raw, 0x38)[0] != MAGIC:
            raise NotReadable("there is no ext4 superblock")
        self._inodes, log_block = struct.unpack_from("<I20xI", raw)
        self._inodes_per_group, first_block = struct.unpack_from("<I", raw, 0x28)[0], raw[0x14]
        incompatible = struct.unpack_from("<I", raw, 0x60)[0]
        unknown = incompatible & ~sum(INCOMPATIBLE)
        if unknown:
            raise NotReadable(f"it uses features that are not understood ({unknown:#x}), or was not unmounted")
        self._inode_size = struct.unpack_from("<H", raw, 0x58)[0]
        self._descriptor = struct.unpack_from("<H", raw, 0xFE)[0] if incompatible & FLAG_64BIT else 32
        if log_block > 6 or self._inode_size < 128 or self._descriptor < 32 or not self._inodes_per_group:
            raise NotReadable("its superblock is damaged")
        self._block = 1024 << log_block
        self._descriptors = (first_block + 1) * self._block

    def _inode_table(self, group: int) -> int:
        raw = self._bytes(self._descriptors + group * self._descriptor, self._descriptor)
        low: int = struct.unpack_from("<I", raw, 8)[0]
        high: int = struct.unpack_from("<I", raw, 0x28)[0] if self._descriptor >= 64 else 0
        return low | high << 32

    def _extents(self, inode: Inode) -> Iterator[Extent]:
        if inode.flags & FLAG_EXTENTS:
            yield from self._extents_of(inode.blocks, inode.number, MAX_EXTENT_DEPTH)
        elif inode.size:
            raise NotReadable(f"inode {inode.number} has its contents in a way that is not understood")

    def _extents_of(self, node: bytes, number: int, deepest: int) -> Iterator[Extent]:
        magic, count, _, depth = struct.unpack_from("<4H", node)
        if magic != EXTENT_MAGIC or depth > deepest or 12 + count * 12 > len(node):
            raise NotReadable(f"the extents of inode {number} are damaged")
        for index in range(count):
            offset = 12 + index * 12
            if depth:
                _, low, high = struct.unpack_from("<IIH", node, offset)
                child = self._bytes((low | high << 32) * self._block, self._block)
                yield from self._extents_of(child, number, depth - 1)
            else:
                logical, length, high, low = struct.unpack_from("<IHHI", node, offset)
                if length > UNWRITTEN:
                    yield Extent(logical, length - UNWRITTEN, 0)
                else:
                    yield Extent(logical, length, low | high << 32)

    def _bytes(self, start: int, length: int) -> bytes:
        data = self._data[start : start + length]
        if len(data) != length:
            raise NotReadable(f"it ends at byte {len(self._data)}, before what it refers to")
        return data


def kind_of(inode: Inode) -> int:
    """Return the kind of a file, as stat.S_IFMT has it."""
    return stat.S_IFMT(inode.mode)


def _zeros(length: int, piece_bytes: int) -> Iterator[bytes]:
    while length > 0:
        yield bytes(min(length, piece_bytes))
        length -= piece_bytes


def _xattrs(area: bytes, position: int) -> dict[str, bytes]:
    """Read the entries of an attribute area; offsets of values count from its beginning."""
    found = {}
    while position + 16 <= len(area) and area[position : position + 4] != bytes(4):
        name_length, index, offset, in_inode, size = struct.unpack_from("<BBHII", area, position)
        if in_inode or offset + size > len(area):
            raise NotReadable("an extended attribute does not fit")
        name = area[position + 16 : position + 16 + name_length]
        if index in XATTR_PREFIXES:
            found[XATTR_PREFIXES[index] + name.decode("utf-8", "surrogateescape")] = area[offset : offset + size]
        position += (16 + name_length + 3) & ~3
    return found
