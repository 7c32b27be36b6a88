"""Finished parts of images on disk: each made in a staging directory, then renamed into place as a whole.

    DIR/lock                      held by whoever builds, and by the programs it runs
    DIR/artefacts/KIND/KEY/       files and manifest.json; exists only when complete
    DIR/staging/                  whatever is being made; swept by the next builder

Killing a builder at any point leaves either a complete artefact or something in `staging/`. The key is a digest of
what went in, so that equal inputs are never built twice.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from bhatti.durable import sync_directory, write_durably
from bhatti.errors import CorruptData, EngineFailure
from bhatti.images.ext4 import space_needed
from bhatti.images.programs import run_program

REBUILD_HINT = "make it again: bhatti image build"


class Progress(Protocol):
    """How a long build tells a progress bar where it is. Called from the building thread; must not block.

    Whatever it raises ends the build, which cleans up as after any failure.
    """

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say that `done` of `total` units of `stage` are finished; a stage ends when both are equal."""


def silent(stage: str, done: int, total: int) -> None:
    """Ignore the progress: for callers that show none."""


class FileRecord(msgspec.Struct, frozen=True):
    """One file of an artefact; size and time are the quick check, the digest the thorough one."""

    size_bytes: int
    mtime_ns: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an artefact is made of. `inputs` names versions and digests, `details` is for people."""

    kind: str
    key: str
    recipe: int
    inputs: dict[str, str]
    files: dict[str, FileRecord]
    details: dict[str, str] = {}
    created_at: float


@dataclass(frozen=True, slots=True)
class Artefact:
    """A complete artefact; `directory` holds the files of the manifest."""

    directory: Path
    manifest: Manifest

    @property
    def key(self) -> str:
        """What identifies it among its kind."""
        return self.manifest.key

    def sha256(self, name: str) -> str:
        """Return the digest of its file `name`."""
        return self.manifest.files[name].sha256

    def checked(self, name: str) -> Path:
        """Return the path of its file `name` if that looks untouched: same size, same time or else same digest.

        Raises `CorruptData` (code `image-corrupt`).
        """
        path, record = self.directory / name, self.manifest.files[name]
        try:
            found = path.stat()
        except OSError as error:
            raise _corrupt(path, error.strerror or "it cannot be read") from error
        if found.st_size != record.size_bytes:
            raise _corrupt(path, f"it has {found.st_size} bytes and should have {record.size_bytes}")
        # A copy of the whole directory has new times and is as good as the original.
        if found.st_mtime_ns != record.mtime_ns and file_sha256(path) != record.sha256:
            raise _corrupt(path, "its contents have changed")
        return path

    def verify(self) -> None:
        """Read all its files and compare their digests; raises `CorruptData` (code `image-corrupt`)."""
        for name, record in self.manifest.files.items():
            path = self.checked(name)
            if file_sha256(path) != record.sha256:
                raise _corrupt(path, "its contents have changed")


def _corrupt(path: Path, reason: str) -> CorruptData:
    return CorruptData(f"{path} is damaged: {reason}", hint=REBUILD_HINT, code="image-corrupt")


class ArtefactStore:
    """The artefacts below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._artefacts = directory / "artefacts"
        self._staging = directory / "staging"

    @contextlib.contextmanager
    def locked(self, progress: Progress) -> Iterator[int]:
        """Hold the build lock and yield its descriptor; waits for another builder, sweeps what a dead one left."""
        with writable(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress("waiting for another build", 0, 1)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                progress("waiting for another build", 1, 1)
            with writable(self.directory):
                remove_tree(self._staging)
                self._staging.mkdir(exist_ok=True)
                yield descriptor
        finally:
            remove_tree(self._staging)
            os.close(descriptor)

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield an empty directory to build in, removed afterwards; the lock must be held."""
        directory = Path(tempfile.mkdtemp(dir=self._staging))
        try:
            yield directory
        finally:
            remove_tree(directory)

    def find(self, kind: str, key: str) -> Artefact | None:
        """Return the artefact, or None when there is none or its manifest cannot be read; looks at no other file."""
        directory = self._artefacts / kind / key
        try:
            manifest = msgspec.json.decode((directory / "manifest.json").read_bytes(), type=Manifest)
        except (OSError, msgspec.MsgspecError):
            return None
        return Artefact(directory, manifest) if (manifest.kind, manifest.key) == (kind, key) else None

    def find_intact(self, kind: str, key: str, recipe: int) -> Artefact | None:
        """Return the artefact if it was made by the recipe of today and every byte is as it was: for builders."""
        artefact = self.find(kind, key)
        if artefact is None or artefact.manifest.recipe != recipe:
            return None
        try:
            artefact.verify()
        except CorruptData:
            return None
        return artefact

    def commit(
        self, files: Path, kind: str, recipe: int, inputs: Mapping[str, str], details: Mapping[str, str] | None = None
    ) -> Artefact:
        """Make the directory `files` (in staging) an artefact: write the manifest last, sync, rename into place."""
        key = input_key(recipe, inputs)
        records = {}
        for path in sorted(p for p in files.rglob("*") if p.is_file()):
            path.chmod(0o644)  # nothing in an image is secret, and rootless engines boot what root has built
            digest = file_sha256(path, sync=True)
            found = path.stat()
            records[str(path.relative_to(files))] = FileRecord(found.st_size, found.st_mtime_ns, digest)
        manifest = Manifest(
            kind=kind, key=key, recipe=recipe, inputs=dict(inputs), files=records,
            details=dict(details or {}), created_at=time.time(),
        )  # fmt: skip
        write_durably(files / "manifest.json", msgspec.json.format(msgspec.json.encode(manifest)))
        target = self._artefacts / kind / key
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # damaged, or of an old recipe: out of the way first, a directory cannot be replaced
            target.rename(Path(tempfile.mkdtemp(dir=self._staging)) / key)
        files.rename(target)
        sync_directory(target.parent)
        return Artefact(target, manifest)

    def all(self) -> list[Artefact]:
        """Return every complete artefact."""
        found = (self.find(path.parent.name, path.name) for path in sorted(self._artefacts.glob("*/*")))
        return [artefact for artefact in found if artefact is not None]

    def remove(self, artefact: Artefact) -> None:
        """Remove an artefact; the lock must be held. Machines that have its files open keep them."""
        artefact.directory.rename(Path(tempfile.mkdtemp(dir=self._staging)) / artefact.key)


def remove_tree(directory: Path) -> None:
    """Remove `directory` and all below it, but nothing that is mounted there; what cannot be removed stays."""
    with contextlib.suppress(EngineFailure):
        run_program(["rm", "-rf", "--one-file-system", "--", directory])


def input_key(recipe: int, inputs: Mapping[str, str]) -> str:
    """Return the key of what is made from `inputs` by the recipe of that number."""
    text = msgspec.json.encode([recipe, sorted(inputs.items())])
    return hashlib.sha256(text).hexdigest()[:24]


def file_sha256(path: Path, *, sync: bool = False) -> str:
    """Return the file's digest; with `sync` its contents are on the disk as well."""
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def writable(directory: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write in `directory` into our errors."""
    try:
        with space_needed(directory):
            yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise EngineFailure(
            f"cannot write to {error.filename or directory}: {error.strerror}",
            hint="run as root, or set BHATTI_STATE_DIR to a directory of yours",
            code="not-permitted",
        ) from error
