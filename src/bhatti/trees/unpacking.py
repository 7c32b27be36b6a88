"""A tar stream as files below one directory, with nothing in it trusted.

What leads out of that directory, or through a link, is refused; no file has its name before all of it is there.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from bhatti.trees.tar import (
    BLOCK_BYTES,
    DIRECTORY,
    FILE,
    HARD_LINK,
    PIECE_BYTES,
    SYMLINK,
    Entry,
    Refused,
    Source,
    next_entry,
    shown,
)

MAX_SEALED = 10_000
"""Directories that are not writable for their owner: remembered until the end, so that things can be put into them."""

PERMISSIONS = 0o777
"""Of a mode, what travels: a program from a stranger must not run with the rights of whoever unpacks it."""

OLD_FILE = b"\0"
SPECIAL = {b"3": "a device", b"4": "a device", b"6": "a named pipe", b"S": "a sparse file of GNU tar"}

DRAFT = b".bhatti-tmp-"

Owner = tuple[int, int]
"""User and group that what is made is given to."""


def unpack(
    pieces: Iterator[bytes],
    into: str,
    *,
    owner: Owner | None = None,
    keep_owner: bool = False,
    on_left_out: Callable[[bytes], None] | None = None,
) -> int:
    """Unpack a tar archive below the directory `into`, which is made if it is missing; return how many entries it had.

    Files replace files, directories are merged. What is made is given to `owner`, or with `keep_owner` to whom the
    archive says. `on_left_out` is told what was left out when it was packed, in the words of whoever packed it. All of
    `pieces` is read. Raises `Refused`, and `OSError` with the name of the entry.
    """
    target = _Target(into, owner, keep_owner)
    source = Source(pieces)
    count = 0
    try:
        while (entry := next_entry(source, on_left_out)) is not None:
            count += 1
            with _named(entry.name):
                target.put(entry, source)
        target.seal()
    finally:
        target.close()
    source.drain()
    return count


class _Target:
    """The directory that is unpacked into. Everything is reached from its descriptor, no link is ever followed."""

    def __init__(self, into: str, owner: Owner | None, keep_owner: bool) -> None:
        self._owner = owner
        self._keep_owner = keep_owner
        self._made = make_directory(into, owner=owner)
        self._root = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._folder: tuple[list[bytes], int] = ([], self._root)
        self._sealed: list[tuple[list[bytes], int]] = []

    def close(self) -> None:
        """Let go of the directory."""
        self._leave()
        os.close(self._root)

    def seal(self) -> None:
        """Give their modes to the directories that could not have them while things were put into them."""
        for parts, mode in reversed(self._sealed):
            os.fchmod(self._entered(parts), mode)

    def put(self, entry: Entry, source: Source) -> None:
        """Make one entry."""
        parts = _parts(entry.name)
        if entry.kind == DIRECTORY or (entry.kind == OLD_FILE and entry.name.endswith(b"/")):
            self._directory(parts, entry)
            return
        if not parts:
            raise Refused(f"{shown(entry.name)} is no name for a file")
        folder = self._entered(parts[:-1])
        if entry.kind in (FILE, OLD_FILE):
            self._file(folder, parts[-1], entry, source)
        elif entry.kind == SYMLINK:
            self._placed(folder, parts[-1], entry, lambda draft: os.symlink(entry.link, draft, dir_fd=folder))
        elif entry.kind == HARD_LINK:
            self._hard_link(folder, parts[-1], entry)
        else:
            what = SPECIAL.get(entry.kind, f"an entry of type {shown(entry.kind)}")
            raise Refused(f"{shown(entry.name)} is {what}: only files, directories and links are unpacked")

    def _directory(self, parts: list[bytes], entry: Entry) -> None:
        if not parts and not self._made:
            return  # the directory that was asked for keeps the rights that it had
        descriptor = self._entered(parts)
        mode = entry.mode & PERMISSIONS
        self._give(descriptor, entry)
        if mode & 0o700 == 0o700:
            os.fchmod(descriptor, mode)
        elif len(self._sealed) >= MAX_SEALED:
            raise Refused(f"more than {MAX_SEALED} directories that their owner may not use")
        else:
            self._sealed.append((parts, mode))

    def _file(self, folder: int, name: bytes, entry: Entry, source: Source) -> None:
        draft = DRAFT + os.urandom(8).hex().encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(draft, flags, 0o600, dir_fd=folder)
        try:
            left = entry.size
            while left:
                piece = source.some(min(left, PIECE_BYTES))
                if not piece:
                    raise Refused("the archive is cut off")
                left -= len(piece)
                while piece:
                    piece = piece[os.write(descriptor, piece) :]
            source.needed(-entry.size % BLOCK_BYTES)
            self._give(descriptor, entry)
            os.fchmod(descriptor, entry.mode & PERMISSIONS)
            os.utime(descriptor, (min(entry.mtime, 2**40), min(entry.mtime, 2**40)))
            os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(draft, dir_fd=folder)
            raise
        finally:
            os.close(descriptor)

    def _hard_link(self, folder: int, name: bytes, entry: Entry) -> None:
        parts = _parts(entry.link)
        if not parts:
            raise Refused(f"{shown(entry.name)} is a link to {shown(entry.link)}")
        folder = os.dup(folder)  # looking for the other file leaves this one's directory
        try:
            there = self._entered(parts[:-1])

            def link(draft: bytes) -> None:
                os.link(parts[-1], draft, src_dir_fd=there, dst_dir_fd=folder, follow_symlinks=False)

            self._placed(folder, name, None, link)
        finally:
            os.close(folder)

    def _placed(self, folder: int, name: bytes, entry: Entry | None, make: Callable[[bytes], None]) -> None:
        """Make something under another name, then put it into its place."""
        draft = DRAFT + os.urandom(8).hex().encode()
        make(draft)
        try:
            owner = self._owner_of(entry) if entry is not None else None
            if owner is not None:
                os.chown(draft, *owner, dir_fd=folder, follow_symlinks=False)
            os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            # Renaming one of two names of a file to the other does nothing (rename(2)).
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=folder)

    def _entered(self, parts: list[bytes]) -> int:
        """Return a descriptor of a directory below ours, good until the next call; directories are made as needed."""
        if parts == self._folder[0]:
            return self._folder[1]
        self._leave()
        descriptor = self._root
        for part in parts:
            inner = self._step(descriptor, part)
            if descriptor != self._root:
                os.close(descriptor)
            descriptor = inner
        self._folder = (list(parts), descriptor)
        return descriptor

    def _step(self, descriptor: int, part: bytes) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(part, flags, dir_fd=descriptor)
        except FileNotFoundError:
            os.mkdir(part, 0o755, dir_fd=descriptor)
            if self._owner is not None:
                os.chown(part, *self._owner, dir_fd=descriptor, follow_symlinks=False)
            return os.open(part, flags, dir_fd=descriptor)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and stat.S_ISLNK(os.lstat(part, dir_fd=descriptor).st_mode):
                raise Refused(f"{shown(part)} is a link: nothing is unpacked through links") from None
            raise

    def _leave(self) -> None:
        if self._folder[1] != self._root:
            os.close(self._folder[1])
        self._folder = ([], self._root)

    def _owner_of(self, entry: Entry) -> Owner | None:
        return (entry.uid, entry.gid) if self._keep_owner else self._owner

    def _give(self, descriptor: int, entry: Entry) -> None:
        if (owner := self._owner_of(entry)) is not None:
            os.fchown(descriptor, *owner)


def _parts(name: bytes) -> list[bytes]:
    """Return the parts of an entry's name; raises `Refused` for one that leads elsewhere."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if name.startswith(b"/") or b".." in parts or b"\0" in name:
        raise Refused(f"{shown(name)} leads out of the directory that is unpacked into")
    return parts


@contextlib.contextmanager
def _named(name: bytes) -> Iterator[None]:
    """Let errors of the system speak of the entry, not of the draft that it has for a moment."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, shown(name)) from error


def make_directory(path: str, owner: Owner | None = None, mode: int = 0o755) -> bool:
    """Make a directory and those above it that are missing, each given to `owner`; say whether it was not there."""
    try:
        os.mkdir(path, mode)
    except FileNotFoundError:
        above = os.path.dirname(path.rstrip("/"))
        if not above or above == path:
            raise
        make_directory(above, owner)
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        return False
    if owner is not None:
        os.chown(path, *owner)
    os.chmod(path, mode)
    return True
