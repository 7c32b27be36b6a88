"""The parts that all images share: kernel, the agent's Python, and the initramfs and agent drive made from them.

Kernel and Python come from packages and change when somebody asks for newer ones. Initramfs and agent drive hold our
own code: they are made again whenever this installation's code differs from theirs, without any download.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bhatti.durable import write_durably
from bhatti.errors import BhattiError, CorruptData, NotFound
from bhatti.images import agent_drive, initramfs, modules
from bhatti.images.artefacts import REBUILD_HINT, Artefact, ArtefactStore, Progress, input_key, silent
from bhatti.images.kernel import extract_vmlinux, kernel_release
from bhatti.images.packages import Apt, Package

KERNEL_RECIPE = 2
RUNTIME_RECIPE = 5
DRIVES_RECIPE = 1
"""Raise one when the code that makes that part changes: what exists is then made again."""

KERNEL_PACKAGE = "linux-image-cloud-amd64"
PYTHON_PACKAGE = "python3-minimal"
LIBRARY_PACKAGES = ("libc6", "libexpat1", "libffi8", "zlib1g")


class GuestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of the parts in use, and the digest of the code that the last two hold."""

    kernel: str
    runtime: str
    initramfs: str
    agent: str
    code: str
    kernel_release: str


@dataclass(frozen=True, slots=True)
class GuestParts:
    """The parts in use."""

    kernel: Artefact
    initramfs: Artefact
    agent: Artefact


class PartsBuilder:
    """Makes and finds the shared parts of the images in one directory."""

    def __init__(self, directory: Path, artefacts: ArtefactStore) -> None:
        self._artefacts = artefacts
        self._record_path = directory / "guest.json"

    def read_record(self) -> GuestRecord | None:
        """Return which parts are in use, or None when nothing has been built or the record is damaged."""
        try:
            return msgspec.json.decode(self._record_path.read_bytes(), type=GuestRecord)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def referenced_keys(self) -> set[tuple[str, str]]:
        """Return (kind, key) of the parts in use."""
        record = self.read_record()
        if record is None:
            return set()
        return {(kind, getattr(record, kind)) for kind in ("kernel", "runtime", "initramfs", "agent")}

    def current(self) -> GuestParts:
        """Return the parts in use, those with our code made again if they are older than this installation.

        Raises `NotFound` (code `image-not-found`) and `CorruptData` (code `image-corrupt`).
        """
        record = self.read_record()
        if record is None:
            raise NotFound(
                "no images have been built yet", hint="build them: bhatti image build", code="image-not-found"
            )
        if record.code != code_digest():
            try:
                with self._artefacts.locked(silent) as lock:
                    record = self._make_drives(*self._packaged(record), lock, silent)
            except BhattiError:
                # Somebody else's directory, or a full disk: an older agent is still a good one, and a part that is
                # really missing or damaged is reported below.
                record = self.read_record() or record
        kernel = self._artefacts.find("kernel", record.kernel)
        first = self._artefacts.find("initramfs", record.initramfs)
        agent = self._artefacts.find("agent", record.agent)
        if kernel is None or first is None or agent is None:
            raise CorruptData("a part of the guest images is gone", hint=REBUILD_HINT, code="image-corrupt")
        return GuestParts(kernel, first, agent)

    def ensure(self, apt: Apt, *, lock: int, refresh: bool, progress: Progress) -> GuestRecord:
        """Make whatever part is missing, damaged or out of date; the lock is held and `lock` its descriptor."""
        record = None if refresh else self.read_record()
        kernel = record and self._artefacts.find_intact("kernel", record.kernel, KERNEL_RECIPE)
        runtime = record and self._artefacts.find_intact("runtime", record.runtime, RUNTIME_RECIPE)
        if kernel is None or runtime is None:
            progress("packages", 0, 1)
            apt.ensure_updated()
            progress("packages", 1, 1)
        return self._make_drives(
            kernel or self._make_kernel(apt, progress), runtime or self._make_runtime(apt, progress), lock, progress
        )

    def _packaged(self, record: GuestRecord) -> tuple[Artefact, Artefact]:
        kernel = self._artefacts.find_intact("kernel", record.kernel, KERNEL_RECIPE)
        runtime = self._artefacts.find_intact("runtime", record.runtime, RUNTIME_RECIPE)
        if kernel is None or runtime is None:
            raise CorruptData("a part of the guest images is gone", hint=REBUILD_HINT, code="image-corrupt")
        return kernel, runtime

    def _make_kernel(self, apt: Apt, progress: Progress) -> Artefact:
        (newest,) = apt.candidates(KERNEL_PACKAGE)
        concrete = next(name for name in newest.depends if name.startswith("linux-image-"))
        packages = apt.candidates(concrete, "busybox-static")
        existing = self._existing("kernel", KERNEL_RECIPE, packages)
        if existing is not None:
            return existing
        progress("kernel", 0, 1)
        with self._artefacts.staging() as work:
            unpacked, files = work / "unpacked", work / "files"
            apt.download(packages, unpacked)
            release = kernel_release(unpacked / "lib/modules")
            wanted = files / "modules" / release / "kernel"
            wanted.mkdir(parents=True)
            for module in modules.load_order(initramfs.MODULES, unpacked / "lib/modules" / release):
                module.path.rename(wanted / module.path.name)
            (unpacked / "bin/busybox").rename(files / "busybox")
            (files / "vmlinux").write_bytes(
                extract_vmlinux(
                    (unpacked / "boot" / f"vmlinuz-{release}").read_bytes(),
                    on_progress=lambda done, total: progress("kernel", done, total + 1),
                )
            )
            made = self._artefacts.commit(files, "kernel", KERNEL_RECIPE, _versions(packages), {"release": release})
        progress("kernel", 1, 1)
        return made

    def _make_runtime(self, apt: Apt, progress: Progress) -> Artefact:
        (newest,) = apt.candidates(PYTHON_PACKAGE)
        minimal = next(name for name in newest.depends if name.startswith("python3."))
        python = minimal.removesuffix("-minimal")
        packages = apt.candidates(minimal, f"lib{minimal}", f"lib{python}-stdlib", *LIBRARY_PACKAGES)
        existing = self._existing("runtime", RUNTIME_RECIPE, packages)
        if existing is not None:
            return existing
        progress("agent's Python", 0, 1)
        with self._artefacts.staging() as work:
            unpacked, tree, files = work / "unpacked", work / "tree", work / "files"
            files.mkdir()
            apt.download(packages, unpacked)
            agent_drive.lay_out_runtime(unpacked, tree, python)
            agent_drive.pack_runtime(tree, files / "runtime.tar")
            made = self._artefacts.commit(files, "runtime", RUNTIME_RECIPE, _versions(packages))
        progress("agent's Python", 1, 1)
        return made

    def _existing(self, kind: str, recipe: int, packages: list[Package]) -> Artefact | None:
        return self._artefacts.find_intact(kind, input_key(recipe, _versions(packages)), recipe)

    def _make_drives(self, kernel: Artefact, runtime: Artefact, lock: int, progress: Progress) -> GuestRecord:
        code = code_digest()
        release = kernel.manifest.details["release"]
        first = self._make_initramfs(kernel, release)
        agent = self._make_agent(runtime, lock, progress)
        record = GuestRecord(
            kernel=kernel.key, runtime=runtime.key, initramfs=first.key, agent=agent.key, code=code,
            kernel_release=release,
        )  # fmt: skip
        if record != self.read_record():
            write_durably(self._record_path, msgspec.json.encode(record))
        return record

    def _make_initramfs(self, kernel: Artefact, release: str) -> Artefact:
        inputs = {"kernel": kernel.key, "code": boot_digest()}
        found = self._artefacts.find_intact("initramfs", _key(inputs), DRIVES_RECIPE)
        if found is not None:
            return found
        with self._artefacts.staging() as work:
            files = work / "files"
            files.mkdir()
            archive = initramfs.build_initramfs(
                kernel.directory / "modules" / release, (kernel.directory / "busybox").read_bytes()
            )
            (files / "initramfs.cpio").write_bytes(archive)
            return self._artefacts.commit(files, "initramfs", DRIVES_RECIPE, inputs)

    def _make_agent(self, runtime: Artefact, lock: int, progress: Progress) -> Artefact:
        inputs = {"runtime": runtime.key, "code": drive_digest()}
        found = self._artefacts.find_intact("agent", _key(inputs), DRIVES_RECIPE)
        if found is not None:
            return found
        progress("agent drive", 0, 1)
        with self._artefacts.staging() as work:
            files = work / "files"
            files.mkdir()
            tree = work / "tree"
            agent_drive.unpack_runtime(runtime.directory / "runtime.tar", tree)
            agent_drive.make_agent_drive(files / "agent.ext4", tree, held_lock=lock)
            made = self._artefacts.commit(files, "agent", DRIVES_RECIPE, inputs)
        progress("agent drive", 1, 1)
        return made


def _key(inputs: dict[str, str]) -> str:
    return input_key(DRIVES_RECIPE, inputs)


def _versions(packages: list[Package]) -> dict[str, str]:
    return {package.name: package.version for package in packages}


BOOT_CODE = ("init.sh", "initramfs.py", "cpio.py", "modules.py")
DRIVE_CODE = ("agent_drive.py", "compile_modules.py", "ext4.py")
"""The modules of this package that decide what is in the initramfs, and what beside lohar is on the agent drive."""


def boot_digest() -> str:
    """Return the digest of our code that makes the initramfs."""
    return _digest(BOOT_CODE)


def drive_digest() -> str:
    """Return the digest of our code that makes the agent drive, with all of lohar."""
    return hashlib.sha256(f"{_digest(DRIVE_CODE)} {agent_drive.lohar_digest()}".encode()).hexdigest()


def code_digest() -> str:
    """Return the digest of all our code that runs in guests or decides what is put there."""
    return hashlib.sha256(f"{boot_digest()} {drive_digest()}".encode()).hexdigest()


def _digest(names: tuple[str, ...]) -> str:
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for name in names:
        digest.update((here / name).read_bytes())
    return digest.hexdigest()
