"""The tar format, both ways: headers of our own, and those of strangers, which are bounded and checked.

Written is ustar with GNU's long names ("Tar Internals" of the GNU tar manual); read are these, V7 and pax
(POSIX.1-2008 pax(1)). Not the standard library's `tarfile`: it keeps every entry in memory, reads extended headers of
any size, and costs a guest under emulation half a second to import.
"""

import os
import stat
from collections.abc import Callable, Iterator

BLOCK_BYTES = 512
PIECE_BYTES = 256 << 10
"""What is read, written and handed on at once."""

MAX_EXTENSION_BYTES = 1 << 20
"""For a long name or a pax header, which hold two paths of at most 4096 bytes and some attributes."""

ENDING = b"\0" * (2 * BLOCK_BYTES)

FILE, HARD_LINK, SYMLINK, DIRECTORY = b"0", b"1", b"2", b"5"


class Refused(ValueError):
    """An archive that is none, is cut off, or holds what is not taken from strangers; the message names the entry."""


def header(name: bytes, status: os.stat_result, kind: bytes, *, size: int = 0, link: bytes = b"") -> bytes:
    """Return a header, with those before it that carry a name or link too long for one."""
    mode, owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
    return (
        _long(name, b"L")
        + _long(link, b"K")
        + _block(name, mode, owner, size, max(0, int(status.st_mtime)), kind, link)
    )


def remark(text: bytes) -> bytes:
    """Return a comment between entries (a pax global header), which every reader passes over that is not told of it."""
    record = b" comment=" + text + b"\n"
    size = len(record) + 1
    while len(str(size)) + len(record) > size:
        size += 1
    content = b"%d" % size + record
    return _block(b"remark", 0o644, (0, 0), size, 0, b"g") + content + b"\0" * (-size % BLOCK_BYTES)


def _long(text: bytes, kind: bytes) -> bytes:
    if len(text) <= 100:
        return b""
    content = text + b"\0"
    return _block(b"././@LongLink", 0, (0, 0), len(content), 0, kind) + content + b"\0" * (-len(content) % BLOCK_BYTES)


def _block(
    name: bytes, mode: int, owner: tuple[int, int], size: int, mtime: int, kind: bytes, link: bytes = b""
) -> bytes:
    head = b"%-100b%07o\0%b%b%b%b" % (
        name[:100].ljust(100, b"\0"),
        mode,
        _number(owner[0], 8),
        _number(owner[1], 8),
        _number(size, 12),
        _number(mtime, 12),
    )
    tail = kind + link[:100].ljust(100, b"\0") + b"ustar  \0" + b"\0" * 247
    total = sum(head) + 8 * 32 + sum(tail)
    return head + b"%06o\0 " % total + tail


def _number(value: int, width: int) -> bytes:
    """Return a number as octal digits, or as GNU's binary one if that has not the room."""
    if value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return b"\x80" + value.to_bytes(width - 1, "big")


class Source:
    """A stream of pieces, read in the lengths that are needed."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def some(self, limit: int) -> memoryview:
        """Return between 1 and `limit` bytes; nothing at the end of the stream."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return self._rest
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:limit], self._rest[limit:]
        return taken

    def exactly(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end of the stream."""
        first = self.some(size)
        if len(first) == size:
            return bytes(first)
        found = bytearray(first)
        while len(found) < size and (more := self.some(size - len(found))):
            found += more
        return bytes(found)

    def needed(self, size: int) -> bytes:
        """Return `size` bytes; raises `Refused` if there are fewer."""
        found = self.exactly(size)
        if len(found) < size:
            raise Refused("the archive is cut off")
        return found

    def drain(self) -> None:
        """Read to the end: what follows an archive is padding."""
        self._rest = memoryview(b"")
        for _ in self._pieces:
            pass


class Entry:
    """One entry of an archive, as it stands there."""

    __slots__ = ("gid", "kind", "link", "mode", "mtime", "name", "size", "uid")

    def __init__(self, block: bytes) -> None:
        text = block[148:156].strip(b"\0 ")
        if not text.isdigit() or _parsed(text) != sum(block[:148]) + 256 + sum(block[156:]):
            raise Refused("this is no tar archive, or it is damaged: a header's checksum is wrong")
        self.kind = block[156:157]
        self.name = block[:100].partition(b"\0")[0]
        self.link = block[157:257].partition(b"\0")[0]
        self.mode, self.uid, self.gid = (_parsed(block[at : at + 8]) for at in (100, 108, 116))
        self.size, self.mtime = (_parsed(block[at : at + 12]) for at in (124, 136))
        prefix = block[345:500].partition(b"\0")[0]
        if prefix and block[257:263] == b"ustar\0":
            self.name = prefix + b"/" + self.name


def _parsed(field: bytes) -> int:
    if field[0] & 0x80:  # GNU's binary numbers; negative ones are times before 1970
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else 0
    digits = field.partition(b"\0")[0].strip(b" ")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise Refused(f"the archive is damaged: {field!r} is no number") from None


def next_entry(source: Source, on_remark: Callable[[bytes], None] | None = None) -> Entry | None:
    """Read headers up to the next entry's; None at the end of the archive. `on_remark` is told of comments."""
    name = link = size = None
    while True:
        block = source.exactly(BLOCK_BYTES)
        if not block.strip(b"\0"):
            return None
        if len(block) < BLOCK_BYTES:
            raise Refused("the archive is cut off")
        entry = Entry(block)
        if entry.kind not in b"xgLK":
            entry.name = entry.name if name is None else name
            entry.link = entry.link if link is None else link
            entry.size = entry.size if size is None else size
            return entry
        if entry.size > MAX_EXTENSION_BYTES:
            raise Refused(f"an extended header of {entry.size} bytes")
        content = source.needed(entry.size)
        source.needed(-entry.size % BLOCK_BYTES)
        if entry.kind == b"L":
            name = content.partition(b"\0")[0]
        elif entry.kind == b"K":
            link = content.partition(b"\0")[0]
        elif entry.kind == b"x":
            records = _records(content)
            name, link = records.get(b"path", name), records.get(b"linkpath", link)
            if (digits := records.get(b"size", b"")).isdigit() and len(digits) <= 20:
                size = int(digits)
        elif on_remark is not None and (text := _records(content).get(b"comment")) is not None:
            on_remark(text)


def _records(content: bytes) -> dict[bytes, bytes]:
    """Return the records of a pax header: `LENGTH KEY=VALUE` and a line's end, each."""
    found = {}
    at = 0
    while at < len(content):
        digits = content[at : at + 20].partition(b" ")[0]
        end = at + int(digits) if digits.isdigit() else at
        key, equals, value = content[at + len(digits) + 1 : end].partition(b"=")
        if end > len(content) or not equals or not value.endswith(b"\n"):
            raise Refused("the archive is damaged: a pax record is cut off")
        found[key] = value[:-1]
        at = end
    return found


def shown(text: bytes) -> str:
    """Return text from a stranger as it can be shown to people: printable, not too long."""
    decoded = text.decode("utf-8", "backslashreplace")
    safe = "".join(c if c.isprintable() else repr(c)[1:-1] for c in decoded)
    return safe if len(safe) <= 200 else safe[:197] + "..."
