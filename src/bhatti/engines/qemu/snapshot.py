"""A machine's memory at rest: what belongs to it, what makes it exist, and when it must not be used.

Theory of operation. A snapshot is a state file, mostly with a memory file beside it, and a manifest. The manifest is
written last and all at once: it is what makes the snapshot exist. It seals everything that the memory knows about: the
files of all drives as they were, the machine that QEMU was told to be, QEMU itself. A snapshot is loaded only if all of
that is still so; it never guesses. And it is loaded once: before the first instruction runs it is *spent*, durably,
because from then on the disk belongs to another time than the memory in the files.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from bhatti.durable import sync_directory, write_durably
from bhatti.engines.qemu.command import machine_type
from bhatti.engines.qemu.host import QemuHost
from bhatti.engines.qemu.record import MachineRecord
from bhatti.images.artefacts import file_sha256

MANIFEST_FILE = "snapshot.json"
SPENT_FILE = "snapshot.spent"
SUM_FILE = "ram.sum"
ROOM_FILE = "snapshot.room"
FORMAT = 1
"""Rises when an older bhatti could misread what is written."""


class SealedFile(msgspec.Struct, frozen=True):
    """A file as it was: size, time of its last change, and for small ones the sha256 of its content."""

    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str = ""


class SealedDrive(msgspec.Struct, frozen=True):
    """A drive of the machine."""

    file: SealedFile
    read_only: bool


class Maker(msgspec.Struct, frozen=True, kw_only=True):
    """What a state can be loaded by: the same again, or another version that reads the same format.

    `format` is the version of the format, MAJOR.MINOR.PATCH, with an engine that has one and promises to keep to it.
    """

    engine: str = "qemu"
    version: str
    format: str = ""
    accelerator: str
    machine: str
    processor: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is. `memory` is None if the memory is in the state file; `taken_at` is seconds since 1970."""

    format: int = FORMAT
    maker: Maker
    cpus: int
    memory_mib: int
    card: str
    kernel: SealedFile
    initramfs: SealedFile
    kernel_arguments: str
    drives: tuple[SealedDrive, ...]
    state: SealedFile
    memory: SealedFile | None
    agent: str
    taken_at: float


def seal(path: Path, *, content: bool = False) -> SealedFile:
    """Return the file as it is now, with a checksum of its `content` if wished."""
    found = path.stat()
    return SealedFile(str(path), found.st_size, found.st_mtime_ns, file_sha256(path) if content else "")


def maker_of(host: QemuHost) -> Maker:
    """Return what this host's engine would have to be."""
    kvm = host.verdict.accelerator == "kvm"
    return Maker(
        engine=host.engine,
        version=host.version,
        format=host.snapshot_format,
        accelerator=host.verdict.accelerator,
        machine=host.machine or machine_type(host.verdict.accelerator),
        processor=_host_processor() if kvm else "max",
    )


def make_manifest(host: QemuHost, record: MachineRecord, *, state: Path, memory: Path | None) -> Manifest:
    """Describe a machine whose state has been saved and whose process is gone. Blocks: it reads the state file."""
    frame = record.frame
    assert frame is not None
    return Manifest(
        maker=maker_of(host),
        cpus=record.spec.cpus,
        memory_mib=record.spec.memory_mib,
        card=record.network,
        kernel=seal(Path(frame.kernel)),
        initramfs=seal(Path(frame.initramfs)),
        kernel_arguments=frame.kernel_arguments,
        drives=tuple(SealedDrive(seal(Path(path)), read_only) for path, read_only in frame.drives if path),
        state=seal(state, content=True),
        memory=None if memory is None else seal(memory),
        agent=record.agent,
        taken_at=time.time(),
    )


ROOM_BYTES = 128 << 10
"""More than a manifest and a record take together."""


def keep_room(directory: Path) -> None:
    """See to it that `write_manifest` finds room, however full the disk is by then. Blocks; raises `OSError`."""
    file = os.open(directory / ROOM_FILE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(file, 0, ROOM_BYTES)
    finally:
        os.close(file)


def give_room_back(directory: Path) -> None:
    """Free what `keep_room` has kept, if anything."""
    (directory / ROOM_FILE).unlink(missing_ok=True)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Make the snapshot exist, durably; what it names must be durable before."""
    give_room_back(directory)
    write_durably(directory / MANIFEST_FILE, msgspec.json.encode(manifest), mode=0o600)


def read_manifest(directory: Path) -> Manifest | str:
    """Return the manifest of the snapshot in `directory`, or why there is none to be used."""
    path = directory / MANIFEST_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        spent = (directory / SPENT_FILE).exists()
        return "its memory snapshot is spent: it ran on from it" if spent else "it has no memory snapshot"
    except (msgspec.DecodeError, OSError) as error:
        return f"the manifest of its memory snapshot is damaged: {error}"


def obstacle(manifest: Manifest, maker: Maker, *, card: str) -> str | None:
    """Return why the snapshot cannot be loaded here and now, or None if it can. Blocks: it reads the state file."""
    if manifest.format != FORMAT:
        return f"its memory snapshot has format {manifest.format}, this bhatti knows {FORMAT}"
    if (stranger := unreadable(manifest.maker, maker)) is not None:
        return stranger
    if manifest.card != card:
        return f"its memory snapshot has a network card of another kind ({manifest.card})"
    parts = [("state", manifest.state), ("kernel", manifest.kernel), ("initramfs", manifest.initramfs)]
    if manifest.memory is not None:
        parts.append(("memory", manifest.memory))
    parts += [("drive", drive.file) for drive in manifest.drives]
    for name, file in parts:
        broken = damage(file)
        if broken is not None:
            return f"the {name} file of its memory snapshot {broken}"
    return None


def unreadable(then: Maker, now: Maker) -> str | None:
    """Return why a snapshot that was taken by `then` cannot be loaded by `now`, or None if it can."""
    for field in ("engine", "version", "accelerator", "machine", "processor"):
        was, here = getattr(then, field), getattr(now, field)
        if was != here and not (field == "version" and _reads(now.format, then.format)):
            return f"its memory snapshot was taken with {field} {was}, here it is {here}"
    return None


def _reads(now: str, then: str) -> bool:
    """Return whether who writes the format `now` reads `then`: the same major version, the minor one not later.

    Source: Firecracker's docs/snapshotting/versioning.md. Where a format is not known, nothing is promised.
    """
    if not now or not then:
        return False
    ours, theirs = ([int(part) for part in version.split(".")[:2]] for version in (now, then))
    return ours[0] == theirs[0] and ours[1] >= theirs[1]


def damage(file: SealedFile) -> str | None:
    """Return what is different about a sealed file, or None. Blocks."""
    path = Path(file.path)
    try:
        found = path.stat()
    except OSError as error:
        return f"cannot be used: {path}: {error.strerror}"
    if found.st_size != file.size_bytes:
        return f"has {found.st_size} bytes instead of {file.size_bytes}: {path}"
    # A checksum says all; without one, nobody but the machine ever writes there.
    if file.sha256:
        return None if file_sha256(path) == file.sha256 else f"does not match its checksum: {path}"
    return None if found.st_mtime_ns == file.mtime_ns else f"was changed since: {path}"


def stored_bytes(manifest: Manifest) -> int:
    """Return what the files of a snapshot take on the disk, holes not counted."""
    files = [manifest.state] if manifest.memory is None else [manifest.state, manifest.memory]
    return sum(Path(file.path).stat().st_blocks * 512 for file in files)


def spend(directory: Path) -> None:
    """Note, durably, that the machine runs on from its snapshot, which is never to be loaded again. Idempotent."""
    with suppress(FileNotFoundError):
        (directory / MANIFEST_FILE).replace(directory / SPENT_FILE)
    (directory / SUM_FILE).unlink(missing_ok=True)
    sync_directory(directory)


def discard(directory: Path, *files: Path) -> None:
    """Remove a snapshot that will not be used, manifest first. Nothing happens if there is none."""
    (directory / MANIFEST_FILE).unlink(missing_ok=True)
    (directory / SPENT_FILE).unlink(missing_ok=True)
    (directory / SUM_FILE).unlink(missing_ok=True)
    sync_directory(directory)
    for path in files:
        path.unlink(missing_ok=True)


def _host_processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
