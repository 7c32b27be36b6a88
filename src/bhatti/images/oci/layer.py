"""Apply one layer to a tree: an archive's entries over what earlier layers left (OCI image specification, layer.md).

A name that begins with `.wh.` is no file but says what to remove of the layers below: `.wh.NAME` that one thing,
`.wh..wh..opq` everything in its directory. Neither touches what its own layer brings, whatever the order.
"""

import errno
import os
import stat
from dataclasses import dataclass

from bhatti.errors import LimitExceeded
from bhatti.images.oci.streams import too_large
from bhatti.images.oci.tar import Entry, Kind, TarReader
from bhatti.images.oci.tarfields import shown
from bhatti.images.oci.tree import EntryRefused, Place, Tree, split_name

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."
"""Other such names are bookkeeping of the file system that whiteouts come from: nothing of the image."""

NOBODY = 2**32 - 1
"""The user and group id that means "none" to the kernel."""

MAX_TIME_S = 2**31 - 1
"""The last second that mke2fs can write (2038)."""

DEVICES = (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)


@dataclass(slots=True)
class Budget:
    """How much an image may unfold to, over all its layers."""

    max_bytes: int
    max_entries: int
    what: str
    entries: int = 0
    file_bytes: int = 0
    stream_bytes: int = 0
    lost_capabilities: int = 0
    """Files whose capabilities the host's file system could not take."""

    def spend_entry(self, entry: Entry) -> None:
        """Count an entry; raises `LimitExceeded` (code `image-too-large`)."""
        self.entries += 1
        self.file_bytes += entry.size_bytes
        if self.entries > self.max_entries:
            raise too_many(self.what, self.max_entries)
        if self.file_bytes > self.max_bytes:
            raise too_large(self.what, self.max_bytes)

    def spend_stream(self, size: int) -> None:
        """Count unpacked bytes, headers and padding included; raises `LimitExceeded` (code `image-too-large`)."""
        self.stream_bytes += size
        if self.stream_bytes > self.max_bytes:
            raise too_large(self.what, self.max_bytes)


def apply_layer(reader: TarReader, tree: Tree, budget: Budget) -> None:
    """Apply a layer. Raises `EntryRefused`, `MalformedTar`, `LimitExceeded`, `OSError`."""
    writer = _Writer(reader, tree, budget)
    for entry in reader:
        budget.spend_entry(entry)
        writer.put(entry)


class _Writer:
    """What it takes to apply one layer; `_own` holds the paths that the layer has brought."""

    def __init__(self, reader: TarReader, tree: Tree, budget: Budget) -> None:
        self._reader = reader
        self._tree = tree
        self._budget = budget
        self._own: set[bytes] = set()

    def put(self, entry: Entry) -> None:
        """Apply one entry."""
        parts = split_name(entry.name)
        if any(part.startswith(WHITEOUT) for part in parts):
            self._whiteout(entry, parts)
            return
        if entry.kind in DEVICES:
            raise EntryRefused(f"{shown(entry.name)}: images must not bring device nodes ({entry.kind.value})")
        if not (0 <= entry.uid < NOBODY and 0 <= entry.gid < NOBODY):
            raise EntryRefused(f"{shown(entry.name)}: its owner {entry.uid}:{entry.gid} cannot exist")
        place = self._place(parts)
        if entry.kind is Kind.DIRECTORY:
            self._directory(place, entry)
        elif not place.name:
            raise EntryRefused(f"{shown(entry.name)}: the root is a {entry.kind.value}")
        elif entry.kind is Kind.HARD_LINK:
            self._hard_link(parts, entry)
        else:
            self._tree.remove(place)
            self._make(self._place(parts), entry)
        self._own.add(place.path)

    def _place(self, parts: list[bytes]) -> Place:
        place = self._tree.place(parts, create=True)
        assert place is not None
        return place

    def _directory(self, place: Place, entry: Entry) -> None:
        there = place.lstat()
        if there is None or not stat.S_ISDIR(there.st_mode):
            self._tree.remove(place)
            place = self._place(split_name(entry.name))
            os.mkdir(place.name, 0o700, dir_fd=place.parent)
        descriptor = self._tree.open_directory(place)
        try:
            os.fchown(descriptor, entry.uid, entry.gid)
            os.fchmod(descriptor, entry.mode)
        finally:
            os.close(descriptor)
        self._tree.note_time(place, _time(entry))

    def _hard_link(self, parts: list[bytes], entry: Entry) -> None:
        # Some tools write the target with a leading slash. It means the image's root, as every target here does.
        target_parts = split_name(entry.link.lstrip(b"/"))
        place, target = self._place(parts), self._tree.place(target_parts, create=False)
        if target is not None and target.path == place.path and target.lstat() is not None:
            return
        self._tree.remove(place)
        place, target = self._place(parts), self._tree.place(target_parts, create=False)
        there = target.lstat() if target is not None else None
        if target is None or there is None or stat.S_ISDIR(there.st_mode):
            raise EntryRefused(f"{shown(entry.name)}: a hard link to {shown(entry.link)}, no file of the image")
        os.link(target.name, place.name, src_dir_fd=target.parent, dst_dir_fd=place.parent, follow_symlinks=False)

    def _make(self, place: Place, entry: Entry) -> None:
        """Make something new that is neither a directory nor a hard link."""
        time = _time(entry)
        if entry.kind is Kind.FILE:
            self._file(place, entry)
            return
        if entry.kind is Kind.SYMLINK:
            if not entry.link or b"\0" in entry.link or len(entry.link) > 4095:
                raise EntryRefused(f"{shown(entry.name)}: a link to nowhere")
            os.symlink(entry.link, place.name, dir_fd=place.parent)
        else:
            os.mkfifo(place.name, 0o600, dir_fd=place.parent)
        os.chown(place.name, entry.uid, entry.gid, dir_fd=place.parent, follow_symlinks=False)
        if entry.kind is not Kind.SYMLINK:
            os.chmod(place.name, entry.mode, dir_fd=place.parent)
        os.utime(place.name, ns=(time, time), dir_fd=place.parent, follow_symlinks=False)

    def _file(self, place: Place, entry: Entry) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(place.name, flags, 0o600, dir_fd=place.parent)
        try:
            for position, data in self._reader.contents():
                _write(descriptor, data, position)
            if entry.extents is not None:
                os.ftruncate(descriptor, entry.size_bytes)
            # In this order: a new owner takes setuid bits and capabilities away.
            os.fchown(descriptor, entry.uid, entry.gid)
            os.fchmod(descriptor, entry.mode)
            for name, value in entry.xattrs.items():
                self._set_xattr(descriptor, name, value)
            os.utime(descriptor, ns=(_time(entry), _time(entry)))
        finally:
            os.close(descriptor)

    def _set_xattr(self, descriptor: int, name: str, value: bytes) -> None:
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._budget.lost_capabilities += 1

    def _whiteout(self, entry: Entry, parts: list[bytes]) -> None:
        base = parts[-1]
        if any(part.startswith(_AUFS) and part != OPAQUE for part in parts):
            return
        hidden = base.removeprefix(WHITEOUT)
        if any(part.startswith(WHITEOUT) for part in parts[:-1]) or hidden in (b"", b".", b".."):
            raise EntryRefused(f"{shown(entry.name)}: a malformed whiteout")
        place = self._tree.place(parts if base == OPAQUE else [*parts[:-1], hidden], create=False)
        if place is None:
            return
        if base == OPAQUE:
            directory = Place(place.parent, b"", place.path.rpartition(b"/")[0])
            self._tree.clear(directory, keep=self._own)
        else:
            self._tree.remove(place, keep=self._own)


def _time(entry: Entry) -> int:
    """Return the entry's time in nanoseconds, moved into the range that file systems can hold."""
    return max(0, min(entry.mtime_ns, MAX_TIME_S * 1_000_000_000))


def _write(descriptor: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        view = view[written:]
        position += written


def too_many(what: str, limit: int) -> LimitExceeded:
    """Return the error for an image of too many files."""
    return LimitExceeded(
        f"{what} has more than {limit} entries",
        hint="if you trust it, raise the limit; otherwise it may be a bomb",
        code="image-too-large",
    )
