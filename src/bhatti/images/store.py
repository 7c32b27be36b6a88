"""All images of one directory: what `bhatti image build` makes, and what an engine boots."""

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bhatti.durable import write_durably
from bhatti.errors import CorruptData, InvalidRequest, NotFound, shortened
from bhatti.images import base_image
from bhatti.images.artefacts import REBUILD_HINT, Artefact, ArtefactStore, Progress, silent, writable
from bhatti.images.guest_parts import PartsBuilder
from bhatti.images.image_config import ImageConfig, read_image_config
from bhatti.images.oci.importer import LIMITS, imported_root
from bhatti.images.oci.source import ImageSource
from bhatti.images.oci.unpack import Limits
from bhatti.images.packages import Apt
from bhatti.model.sandbox import NAME_PATTERN

BASE = "base"
BASE_RECIPE = 1
"""Raise it when `base.sh` or the list of packages changes: existing base images are then built again."""


@dataclass(frozen=True, slots=True)
class BootFiles:
    """What a guest boots from. All are read-only and shared; `digests` has the sha256 of each by its field's name."""

    kernel: Path
    initramfs: Path
    agent: Path
    base: Path
    digests: dict[str, str]
    image: str
    config: ImageConfig = field(default_factory=ImageConfig)
    """What the image says about running programs in it; nothing, unless it was imported."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image as people see it. `size_bytes` is the file system's size, `stored_bytes` what it takes on the disk."""

    name: str
    digest: str
    size_bytes: int
    stored_bytes: int
    created_at: float
    kernel: str
    source: str


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A name and the artefact that it stands for; `source` says where it came from, for people."""

    name: str
    root_key: str
    source: str


class ImageStore:
    """The images below one directory. All methods block; they may be called from any thread or process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._artefacts = ArtefactStore(directory)
        self._parts = PartsBuilder(directory, self._artefacts)

    def build(self, name: str = BASE, *, refresh: bool = False, progress: Progress | None = None) -> Image:
        """Build what is missing of the image, or damaged, or out of date with this version of bhatti.

        With `refresh` the packages are asked for again and newer ones taken. Killed at any point, it can be run again
        and reuses what was finished; two at once wait for each other. Raises `MissingDependency`, `OutOfSpace`,
        `EngineFailure` (codes `download-failed`, `image-build-failed`, …), `InvalidRequest` for a name other than
        `base`.
        """
        if name != BASE:
            raise InvalidRequest(f"there is no recipe for an image {name!r}", hint=f"only {BASE!r} can be built")
        report = progress or silent
        with self._artefacts.locked(report) as lock, self._artefacts.staging() as work:
            apt = Apt(work / "apt", held_lock=lock)
            self._parts.ensure(apt, lock=lock, refresh=refresh, progress=report)
            root = None if refresh else self._root(name)
            if root is None:
                root = self._build_base(apt, lock, report)
            record = ImageRecord(name=name, root_key=root.key, source=root.manifest.details["source"])
            self._write_record(record)
        return self._image(record)

    def build_parts(self, *, progress: Progress | None = None) -> None:
        """Build what every guest needs beside its image, so far as it is missing; raises like `build`."""
        report = progress or silent
        with self._artefacts.locked(report) as lock, self._artefacts.staging() as work:
            self._parts.ensure(Apt(work / "apt", held_lock=lock), lock=lock, refresh=False, progress=report)

    def import_image(
        self,
        source: ImageSource,
        name: str | None = None,
        *,
        limits: Limits = LIMITS,
        progress: Progress | None = None,
    ) -> Image:
        """Take an image over from elsewhere and call it `name`, or what `source` suggests; a name that is taken moves.

        The same image, by whatever name, is unpacked and stored once. Killed at any point, it can be run again.
        Raises `InvalidRequest` (codes `bad-image-name`, `image-refused`, `image-unsupported`, …), `CorruptData`
        (`digest-mismatch`, `bad-layer`, …), `LimitExceeded` (`image-too-large`), `OutOfSpace`, `MissingDependency`,
        `NotFound` (`image-not-found`, `platform-not-found`), `Unavailable` (the registry).
        """
        if name is not None:
            checked_image_name(name)
        report = progress or silent
        with source, writable(self.directory):
            image = source.resolve(self.directory, report)
            chosen = checked_image_name(name or source.suggested_name())
            with imported_root(self._artefacts, source, image, limits=limits, progress=report) as root:
                record = ImageRecord(name=chosen, root_key=root.key, source=image.origin)
                self._write_record(record)
        return self._image(record)

    def boot_files(self, name: str) -> BootFiles:
        """Return the files to boot `name` from, after a quick check of each.

        If this installation's agent is newer than the one on the agent drive, the drive is made again first: a second
        of work. Raises `NotFound` (code `image-not-found`) and `CorruptData` (code `image-corrupt`).
        """
        record = self._read_record(name)
        if record is None:
            raise _not_found(name)
        root = self._artefacts.find("root", record.root_key)
        if root is None:
            raise CorruptData(f"the files of image {name!r} are gone", hint=REBUILD_HINT, code="image-corrupt")
        parts = self._parts.current()
        files = {
            "kernel": (parts.kernel, "vmlinux"),
            "initramfs": (parts.initramfs, "initramfs.cpio"),
            "agent": (parts.agent, "agent.ext4"),
            "base": (root, "root.ext4"),
        }
        return BootFiles(
            **{field: artefact.checked(file) for field, (artefact, file) in files.items()},
            digests={field: artefact.sha256(file) for field, (artefact, file) in files.items()},
            image=name,
            config=read_image_config(root),
        )

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables that programs of the image start with; none if there is no such image here.

        Raises `CorruptData` (code `image-corrupt`).
        """
        record = self._read_record(name) if NAME_PATTERN.fullmatch(name) else None
        root = self._artefacts.find("root", record.root_key) if record else None
        return read_image_config(root).env if root else {}

    def has(self, name: str) -> bool:
        """Say whether an image is called so, whole or not."""
        return NAME_PATTERN.fullmatch(name) is not None and self._record_path(name).exists()

    def verify(self, name: str) -> None:
        """Read every file that `name` boots from and compare digests; raises like `boot_files`. Takes seconds."""
        self.boot_files(name)
        parts, record = self._parts.current(), self._read_record(name)
        root = self._artefacts.find("root", record.root_key) if record else None
        for artefact in (parts.kernel, parts.initramfs, parts.agent, root):
            if artefact is not None:
                artefact.verify()

    def remove(self, name: str) -> None:
        """Forget the image; its files go with the next `collect`. Raises `NotFound` (code `image-not-found`)."""
        try:
            self._record_path(name).unlink()
        except FileNotFoundError as error:
            raise _not_found(name) from error

    def collect(self, in_use: Callable[[], Set[Path]]) -> int:
        """Remove all artefacts that no image refers to and return how many bytes that freed.

        `in_use` returns the files that sandboxes, sleeping ones too, were booted from: they cannot wake without exactly
        those. It is called when no name can come to mean another image any more, and after the names have been read, so
        that whoever is not in its answer boots, if at all, what a name stands for now. It raises what keeps all.
        """
        from bhatti.images.oci.download import DIRECTORY, Downloads  # brings what HTTP needs: 50 ms

        freed = Downloads(self.directory / DIRECTORY).sweep()
        with self._artefacts.locked(silent):
            keep = self._parts.referenced_keys()
            keep |= {("root", record.root_key) for record in self._records()}
            used = {path.parent.resolve() for path in in_use()}
            for artefact in self._artefacts.all():
                if (artefact.manifest.kind, artefact.key) in keep or artefact.directory.resolve() in used:
                    continue
                files = artefact.manifest.files
                freed += sum((artefact.directory / name).stat().st_blocks * 512 for name in files)
                self._artefacts.remove(artefact)
        return freed

    def _build_base(self, apt: Apt, lock: int, progress: Progress) -> Artefact:
        suite = base_image.host_suite(Path("/etc/os-release").read_text(encoding="utf-8"))
        progress("base image", 0, 1)
        apt.ensure_updated()
        with self._artefacts.staging() as work:
            files = work / "files"
            files.mkdir()
            versions = base_image.build_base(
                files / "root.ext4",
                work,
                suite,
                apt.debian_sources(suite),
                held_lock=lock,
                on_step=lambda done, total: progress("base image", done, total),
            )
            details = {"source": f"Debian {suite}"}
            return self._artefacts.commit(files, "root", BASE_RECIPE, versions, details)

    def _root(self, name: str) -> Artefact | None:
        record = self._read_record(name)
        return self._artefacts.find_intact("root", record.root_key, BASE_RECIPE) if record else None

    def _image(self, record: ImageRecord) -> Image:
        root = self._artefacts.find("root", record.root_key)
        parts = self._parts.read_record()
        assert root is not None
        path = root.directory / "root.ext4"
        return Image(
            name=record.name,
            digest=f"sha256:{root.sha256('root.ext4')}",
            size_bytes=path.stat().st_size,
            stored_bytes=path.stat().st_blocks * 512,
            created_at=root.manifest.created_at,
            kernel=parts.kernel_release if parts else "",
            source=record.source,
        )

    def _write_record(self, record: ImageRecord) -> None:
        path = self._record_path(record.name)
        path.parent.mkdir(exist_ok=True)
        write_durably(path, msgspec.json.encode(record))

    def _records(self) -> Iterator[ImageRecord]:
        for path in sorted((self.directory / "names").glob("*.json")):
            record = self._read_record(path.stem)
            if record is not None:
                yield record

    def _record_path(self, name: str) -> Path:
        if not NAME_PATTERN.fullmatch(name):
            raise _not_found(name)
        return self.directory / "names" / f"{name}.json"

    def _read_record(self, name: str) -> ImageRecord | None:
        try:
            return msgspec.json.decode(self._record_path(name).read_bytes(), type=ImageRecord)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise CorruptData(f"the record of image {name!r} is damaged: {error}", hint=REBUILD_HINT) from error

    def list(self) -> list[Image]:  # last in the class: below it, `list` would mean this method
        """Return all images that can be booted, by name; damaged ones are left out."""
        return [self._image(r) for r in self._records() if self._artefacts.find("root", r.root_key)]


def checked_image_name(name: str) -> str:
    """Return `name` if an imported image may be called so; raises `InvalidRequest` (code `bad-image-name`)."""
    if name == BASE:
        raise InvalidRequest(
            f"{BASE!r} is the name of the image that bhatti builds itself",
            hint="give another one with --name",
            code="bad-image-name",
        )
    if not NAME_PATTERN.fullmatch(name):
        shown = shortened(name)
        raise InvalidRequest(
            f"{shown!r} cannot name an image",
            hint="give one with --name: 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit",
            code="bad-image-name",
        )
    return name


def _not_found(name: str) -> NotFound:
    return NotFound(
        f"there is no image {name!r}",
        hint="`bhatti image ls` shows what there is; the base image is built by `bhatti image build`",
        code="image-not-found",
    )
