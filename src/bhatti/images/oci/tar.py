"""Read tar archives from strangers: ustar, pax, GNU long names, GNU sparse files, old V7.

Not the standard library's `tarfile`, not even as a stream, whatever is checked around it. Tried with Python 3.11: a
header that is damaged in the middle ends the archive without an error, and a tree that lacks the rest would be called
an image; a pax header of 200 MiB, which compresses to 200 KiB, takes 650 MiB of memory before anybody can refuse it,
the map of a sparse file as much; three thousand long names in a row are a `RecursionError`. Here every size is bounded
before it is read, damage is an error wherever it is, each entry is forgotten when the next is read, and names stay the
bytes that they are. Sources: POSIX.1-2008 pax(1), the GNU tar manual, appendices "Tar Internals".
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from bhatti.images.oci import pax, sparse
from bhatti.images.oci.tarfields import BLOCK_BYTES, MalformedTar, check_sum, parse_number, parse_text, shown

MAX_EXTENSION_BYTES = 1 << 20
"""For a long name or a pax header, which hold two paths of at most 4096 bytes and some attributes."""

CHUNK_BYTES = 256 << 10

_ZEROES = bytes(BLOCK_BYTES)


class Stream(Protocol):
    """What is read from: a file, or what comes out of a decompressor."""

    def read(self, size: int, /) -> bytes:
        """Return exactly `size` bytes, fewer only at the end."""

    def skip(self, size: int, /) -> int:
        """Pass over `size` bytes; return how many there were."""


class Kind(enum.Enum):
    """What an entry is; the value is for people."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMLINK = "symbolic link"
    DIRECTORY = "directory"
    FIFO = "named pipe"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"


_KINDS = {
    b"0": Kind.FILE, b"\0": Kind.FILE, b"7": Kind.FILE, b"S": Kind.FILE, b"1": Kind.HARD_LINK, b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER_DEVICE, b"4": Kind.BLOCK_DEVICE, b"5": Kind.DIRECTORY, b"6": Kind.FIFO,
}  # fmt: skip


@dataclass(slots=True)
class Entry:
    """One entry. Names are as they stand in the archive, checked by nobody; `size_bytes` is that of the file.

    `extents` says where the contents of a sparse file go, as (offset, length); None for an ordinary file.
    """

    name: bytes
    kind: Kind
    mode: int
    uid: int
    gid: int
    size_bytes: int
    mtime_ns: int
    link: bytes = b""
    extents: list[tuple[int, int]] | None = None
    xattrs: dict[str, bytes] = field(default_factory=dict)


class TarReader:
    """The entries of an archive, one after the other. What is not read of an entry's contents is skipped.

    Every method raises `MalformedTar`, and whatever the stream raises.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._globals: pax.Records = {}
        self._unread = 0  # of the current entry, padding excluded
        self._padding = 0
        self._extents: list[tuple[int, int]] | None = None
        self.offset = 0
        """Position in the stream: before the contents of the current entry, until they are read."""

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries; each is good until the next."""
        while (entry := self._next()) is not None:
            yield entry

    def contents(self) -> Iterator[tuple[int, bytes]]:
        """Yield the contents of the current entry as (position in the file, bytes)."""
        for start, length in self._extents if self._extents is not None else [(0, self._unread)]:
            end = start + length
            while start < end:
                data = self._read(min(CHUNK_BYTES, end - start))
                self._unread -= len(data)
                yield start, data
                start += len(data)

    def _next(self) -> Entry | None:
        """Read headers up to the next entry's; None at the end of the archive."""
        self._pass_over()
        name = link = b""
        records: pax.Records = {}
        extended = False
        while (block := self._read_header(extended=extended)) is not None:
            header = _Header(block)
            kind = header.kind
            if kind in (b"x", b"g", b"L", b"K"):
                extended = True
                content = self._read_extension(header.size)
                if kind == b"x":
                    records = pax.parse(content)
                elif kind == b"g":
                    self._globals |= pax.parse(content)
                elif kind == b"L":
                    name = content.partition(b"\0")[0]
                else:
                    link = content.partition(b"\0")[0]
            elif kind in (b"V", b"X"):  # a volume's label, attributes of Solaris: nothing of the tree
                self._unread, self._padding = header.size, -header.size % BLOCK_BYTES
                self._pass_over()
            else:
                return self._entry(header, name, link, self._globals | records)
        return None

    def _entry(self, header: "_Header", name: bytes, link: bytes, records: pax.Records) -> Entry:
        kind = _KINDS.get(header.kind)
        name = pax.text(records, "path") or name or header.name
        if kind is None:
            raise MalformedTar(f"{shown(name)}: entries of type {header.kind!r} are unknown")
        if header.kind == b"\0" and name.endswith(b"/"):  # before POSIX there was no other way to say it
            kind = Kind.DIRECTORY
        entry = Entry(
            name=name,
            kind=kind,
            mode=header.number(100, 8) & 0o7777,
            uid=pax.integer(records, "uid", lambda: header.number(108, 8)),
            gid=pax.integer(records, "gid", lambda: header.number(116, 8)),
            size_bytes=0,
            mtime_ns=pax.nanoseconds(records, "mtime", lambda: header.number(136, 12)),
            link=(pax.text(records, "linkpath") or link or header.link) if kind in _LINKS else b"",
            xattrs=pax.xattrs(records),
        )
        # Only files have contents, whatever other entries say: POSIX for links, everybody's practice for the rest.
        stored = pax.integer(records, "size", lambda: header.size) if kind is Kind.FILE else 0
        if stored < 0:
            raise MalformedTar(f"{shown(name)}: a size of {stored} bytes")
        self._unread, self._padding = stored, -stored % BLOCK_BYTES
        entry.size_bytes = stored
        if kind is Kind.FILE:
            self._find_extents(entry, header, records)
        self._extents = entry.extents
        return entry

    def _find_extents(self, entry: Entry, header: "_Header", records: pax.Records) -> None:
        """If the file is sparse, read its map from wherever its format keeps it."""
        if header.kind == b"S":
            entry.extents, entry.size_bytes = sparse.old_map(header.block, lambda: self._read(BLOCK_BYTES))
        elif (version := sparse.version(records)) is not None:
            entry.name = pax.text(records, "GNU.sparse.name") or entry.name
            entry.size_bytes = sparse.real_size(records)
            if version == (1, 0):
                entry.extents = sparse.stored_map(self._read_contents_block)
            else:
                entry.extents = sparse.listed_map(records)
        else:
            return
        sparse.check(entry.extents, self._unread, entry.size_bytes)

    def _read_contents_block(self) -> bytes:
        if self._unread < BLOCK_BYTES:
            raise MalformedTar("a sparse file's map does not fit into its contents")
        self._unread -= BLOCK_BYTES
        return self._read(BLOCK_BYTES)

    def _read_header(self, *, extended: bool) -> bytes | None:
        """Return the next header; None at the end: a block of zeroes, or nothing more where a header would begin."""
        block = self._stream.read(BLOCK_BYTES)
        self.offset += len(block)
        if len(block) == BLOCK_BYTES and block != _ZEROES:
            return block
        if extended or block.strip(b"\0"):
            raise MalformedTar("the archive ends in the middle of an entry")
        return None

    def _read_extension(self, size: int) -> bytes:
        if not 0 <= size <= MAX_EXTENSION_BYTES:
            raise MalformedTar(f"an extended header of {size} bytes")
        content = self._read(size)
        self._read(-size % BLOCK_BYTES)
        return content

    def _pass_over(self) -> None:
        rest = self._unread + self._padding
        passed = self._stream.skip(rest) if rest else 0
        self.offset += passed
        # Padding after the last entry's contents is missing in archives of some tools; its contents must be there.
        if passed < self._unread:
            raise MalformedTar("the archive ends in the middle of a file's contents")
        self._unread = self._padding = 0

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.offset += len(data)
        if len(data) < size:
            raise MalformedTar("the archive ends in the middle of an entry")
        return data


_LINKS = (Kind.HARD_LINK, Kind.SYMLINK)


class _Header:
    """A header block, its checksum verified."""

    __slots__ = ("block", "kind", "link", "name", "size")

    def __init__(self, block: bytes) -> None:
        check_sum(block)
        self.block = block
        self.kind = block[156:157]
        self.name = parse_text(block[:100])
        self.link = parse_text(block[157:257])
        self.size = self.number(124, 12)
        # GNU's own format ("ustar" and two blanks) has other things where POSIX has the beginning of a long name.
        if block[257:263] == b"ustar\0" and (prefix := parse_text(block[345:500])):
            self.name = prefix + b"/" + self.name

    def number(self, start: int, length: int) -> int:
        """Read a number."""
        return parse_number(self.block[start : start + length])
