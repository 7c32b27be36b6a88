"""A directory that is filled from an archive: whatever the archive holds, nothing outside of it is touched.

Names are walked component by component, each opened relative to the one before and without following links. A link on
the way is followed by hand, as if the directory were the root of the system: an absolute target begins at it again, and
`..` ends at it. So the links of an image mean in here what they will mean in the guest.
"""

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bhatti.images.oci.tarfields import shown

MAX_PATH_BYTES = 4095
"""What Linux can be asked for (PATH_MAX)."""

MAX_DEPTH = 256
"""Of directories. Programs that walk a tree recurse, and so does mke2fs; real images stay below 100."""

MAX_LINKS = 40
"""As many links as Linux follows in one path."""

_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CACHED = 64


class EntryRefused(ValueError):
    """An entry that no honest image has, or that cannot be made; the message names it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry goes: `name` in the open directory `parent`; `path` is the whole way, links resolved.

    After something was removed, good only until the next is looked up: ways may lead elsewhere then. The root itself
    has an empty name and path.
    """

    parent: int
    name: bytes
    path: bytes

    def lstat(self) -> os.stat_result | None:
        """Return what is there, None if nothing is."""
        try:
            return os.stat(self.name or b".", dir_fd=self.parent, follow_symlinks=False)
        except FileNotFoundError:
            return None


def split_name(name: bytes) -> list[bytes]:
    """Return the components of an entry's name; raises `EntryRefused`. An empty list is the root."""
    if len(name) > MAX_PATH_BYTES or b"\0" in name:
        raise EntryRefused(f"{shown(name)}: no path can be like this")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if name.startswith(b"/") and parts:
        raise EntryRefused(f"{shown(name)}: the path is absolute")
    if b".." in parts:
        raise EntryRefused(f"{shown(name)}: the path leads upwards")
    if not parts and not name:
        raise EntryRefused("an entry without a name")
    if len(parts) > MAX_DEPTH:
        raise EntryRefused(f"{shown(name)}: more than {MAX_DEPTH} directories deep")
    return parts


class Tree:
    """The tree below one directory, which nobody else may write to meanwhile. A context manager."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._cache: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()
        self._times: dict[bytes, int] = {}
        self._stale = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all directories."""
        self._forget()
        os.close(self._root)

    def place(self, parts: list[bytes], *, create: bool) -> Place | None:
        """Return where `parts` leads. Missing directories on the way are made, or without `create`, None is returned.

        Raises `EntryRefused` when the way leads through something that is no directory, or through a loop of links.
        """
        if self._stale:
            self._forget()
        if not parts:
            return Place(self._root, b"", b"")
        key = b"/".join(parts[:-1])
        found = self._cache.get(key)
        if found is None:
            found = self._walk(parts[:-1], create=create)
            if found is None:
                return None
            self._cache[key] = found
            if len(self._cache) > _CACHED:
                os.close(self._cache.popitem(last=False)[1][0])
        else:
            self._cache.move_to_end(key)
        parent, path = found
        path = path + b"/" + parts[-1] if path else parts[-1]
        if len(path) > MAX_PATH_BYTES or path.count(b"/") >= MAX_DEPTH:
            raise EntryRefused(f"{shown(path)}: the path is too long")
        return Place(parent, parts[-1], path)

    def remove(self, place: Place, *, keep: Container[bytes] = ()) -> None:
        """Remove what is there, a directory with all it holds, but no path in `keep` and no directory that has one."""
        there = place.lstat()
        if there is None or not place.name:
            return
        if not stat.S_ISDIR(there.st_mode):
            if place.path not in keep:
                os.unlink(place.name, dir_fd=place.parent)
                self._stale |= stat.S_ISLNK(there.st_mode)
            return
        self._stale = True
        self.clear(place, keep=keep)
        if place.path not in keep:
            try:
                os.rmdir(place.name, dir_fd=place.parent)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:  # something of it is kept
                    raise

    def clear(self, place: Place, *, keep: Container[bytes] = ()) -> None:
        """Remove what the directory there holds, but no path in `keep`."""
        directory = self.open_directory(place)
        try:
            with os.scandir(directory) as entries:
                names = [os.fsencode(entry.name) for entry in entries]
            for name in names:
                self.remove(Place(directory, name, place.path + b"/" + name if place.path else name), keep=keep)
        finally:
            os.close(directory)

    def open_directory(self, place: Place) -> int:
        """Open a directory that is there, for listing and for its attributes."""
        return os.open(place.name or b".", os.O_RDONLY | _DIRECTORY, dir_fd=place.parent)

    def note_time(self, place: Place, mtime_ns: int) -> None:
        """Remember a directory's time: it is set at the end, as everything put into it changes it."""
        self._times[place.path] = mtime_ns

    def set_times(self) -> None:
        """Set the times of all directories."""
        self._forget()
        for path, mtime_ns in self._times.items():
            try:
                descriptor = os.open(path or b".", os.O_RDONLY | _DIRECTORY, dir_fd=self._root)
            except (FileNotFoundError, NotADirectoryError):
                continue  # a later layer has removed or replaced it
            try:
                os.utime(descriptor, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(descriptor)

    def _walk(self, parts: list[bytes], *, create: bool) -> tuple[int, bytes] | None:
        """Open the directory that `parts` leads to; return it with its real path, None if it is not there."""
        opened = [os.dup(self._root)]
        names: list[bytes] = []
        todo = parts[::-1]
        links = 0
        try:
            while todo:
                name = todo.pop()
                if name == b"..":
                    if names:
                        names.pop()
                        os.close(opened.pop())
                    continue
                try:
                    opened.append(os.open(name, os.O_PATH | _DIRECTORY, dir_fd=opened[-1]))
                    names.append(name)
                except FileNotFoundError:
                    if not create:
                        return None
                    if len(names) >= MAX_DEPTH:
                        raise EntryRefused(f"{shown(b'/'.join(names))}: too many directories") from None
                    os.mkdir(name, 0o755, dir_fd=opened[-1])
                    os.chmod(name, 0o755, dir_fd=opened[-1])  # whatever the umask
                    self._times.setdefault(b"/".join([*names, name]), 0)
                    todo.append(name)
                except NotADirectoryError:
                    target = _read_link(name, opened[-1], b"/".join([*names, name]))
                    links += 1
                    if links > MAX_LINKS:
                        raise EntryRefused(f"{shown(b'/'.join(parts))}: too many links, or a loop of them") from None
                    todo += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
                    if target.startswith(b"/"):
                        for descriptor in opened[1:]:
                            os.close(descriptor)
                        del opened[1:], names[:]
            return opened.pop(), b"/".join(names)
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _forget(self) -> None:
        for descriptor, _ in self._cache.values():
            os.close(descriptor)
        self._cache.clear()
        self._stale = False


def _read_link(name: bytes, directory: int, path: bytes) -> bytes:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        raise EntryRefused(f"{shown(path)}: it is needed as a directory and is none") from error
