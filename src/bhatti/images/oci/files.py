"""Named files of an image on this machine: those of a directory, or the members of a tar archive, read in place."""

import abc
import io
import os
import posixpath
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from bhatti.errors import CorruptData, InvalidRequest, NotFound
from bhatti.images.oci.documents import MAX_DOCUMENT_BYTES
from bhatti.images.oci.streams import GZIP_MAGIC, DamagedStream, PlainInput, Window, too_large, unfold_gzip
from bhatti.images.oci.tar import Kind, TarReader
from bhatti.images.oci.tarfields import MalformedTar, shown

MAX_MEMBERS = 100_000
"""Of an archive; one of many images with a hundred layers each has some thousand."""

MAX_ARCHIVE_BYTES = 128 << 30
"""What a compressed archive may unfold to."""

MAX_LINKS = 8


class Files(abc.ABC):
    """Files by their names, which use slashes and are relative."""

    @abc.abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; it must be closed. Raises `FileNotFoundError`, `CorruptData`."""

    @abc.abstractmethod
    def size(self, name: str) -> int:
        """Return the size of a file in bytes. Raises like `open`."""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Close the archive, if it is one. Idempotent."""

    def read(self, name: str) -> bytes:
        """Return a whole document. Raises `FileNotFoundError`, `CorruptData`."""
        with self.open(name) as file:
            content = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(content) > MAX_DOCUMENT_BYTES:
            raise CorruptData(f"{name} has more than {MAX_DOCUMENT_BYTES} bytes: it is no document of an image")
        return content


class DirectoryFiles(Files):
    """The files below a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return open_regular(self._root / name)

    def size(self, name: str) -> int:
        """Return the size of a file."""
        return (self._root / name).stat().st_size


class ArchiveFiles(Files):
    """The members of a tar archive; a compressed one is unfolded first, into a nameless file in `workspace`."""

    def __init__(self, path: Path, workspace: Path) -> None:
        self._path = path
        self._file = open_regular(path)
        self._members: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        try:
            if self._file.read(2) == GZIP_MAGIC:
                self._unfold(workspace)
            self._file.seek(0)
            self._read_index()
        except (MalformedTar, DamagedStream) as error:
            self.close()
            raise CorruptData(f"{path} is no archive of an image, or damaged: {error}", code="bad-archive") from error
        except BaseException:
            self.close()
            raise

    def open(self, name: str) -> BinaryIO:
        """Open a member for reading, independent of all others."""
        start, size = self._find(name)
        return io.BufferedReader(Window(self._file.fileno(), start, size), 128 << 10)

    def size(self, name: str) -> int:
        """Return the size of a member."""
        return self._find(name)[1]

    def close(self) -> None:
        """Close the archive; opened members stay open."""
        self._file.close()

    def _find(self, name: str) -> tuple[int, int]:
        for _ in range(MAX_LINKS):
            if name not in self._links:
                break
            name = self._links[name]
        if name not in self._members:
            raise FileNotFoundError(2, "no such member of the archive", name)
        return self._members[name]

    def _read_index(self) -> None:
        reader = TarReader(PlainInput(self._file))
        for entry in reader:
            if len(self._members) + len(self._links) >= MAX_MEMBERS:
                raise MalformedTar(f"more than {MAX_MEMBERS} members")
            name = posixpath.normpath(os.fsdecode(entry.name))
            if entry.kind is Kind.FILE and entry.extents is None:
                self._members[name] = (reader.offset, entry.size_bytes)
                self._links.pop(name, None)
            elif entry.kind in (Kind.SYMLINK, Kind.HARD_LINK):
                # `docker save` stores a layer that two images share once, and links to it.
                base = posixpath.dirname(name) if entry.kind is Kind.SYMLINK else ""
                self._links[name] = posixpath.normpath(posixpath.join(base, os.fsdecode(entry.link)))
            elif entry.kind is not Kind.DIRECTORY:
                raise MalformedTar(f"{shown(entry.name)}: a {entry.kind.value} in an archive of images")

    def _unfold(self, workspace: Path) -> None:
        """Replace the file by what it unfolds to."""
        self._file.seek(0)
        workspace.mkdir(parents=True, exist_ok=True)
        plain = tempfile.TemporaryFile(dir=workspace)  # noqa: SIM115 - closed with the archive
        try:
            for piece in unfold_gzip(self._file):
                plain.write(piece)
                if plain.tell() > MAX_ARCHIVE_BYTES:
                    raise too_large(str(self._path), MAX_ARCHIVE_BYTES)
        except BaseException:
            plain.close()
            raise
        self._file.close()
        self._file = plain


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading: anything else could block, or have no end.

    Raises `FileNotFoundError`, `InvalidRequest`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InvalidRequest(
            f"cannot read {path}: {error.strerror}", hint="paths are those of the machine that the daemon runs on"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidRequest(f"{path} is not a regular file", hint="give the file that `docker save` wrote")
    return os.fdopen(descriptor, "rb")


def no_such_file(path: Path) -> NotFound:
    """Return the error for a path that leads nowhere."""
    return NotFound(
        f"there is no {path}", hint="paths are those of the machine that bhatti runs on", code="no-such-file"
    )
