"""A machine at rest from which others are made: its memory, its disk and who it was, in a directory of their own.

Golden snapshots and checkpoints are molds. Nothing in a mold is ever written to again: forks map its memory privately
and copy the rest. It may be removed while they run, for what is mapped stays until the last of them ends.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bhatti.durable import sync_file
from bhatti.engines.qemu import snapshot
from bhatti.engines.qemu.command import FIRST_SLOT
from bhatti.engines.qemu.copying import copy_sparse
from bhatti.engines.qemu.files import MachineFiles
from bhatti.engines.qemu.host import QemuHost
from bhatti.engines.qemu.memory_sum import content_damage, record_sum
from bhatti.engines.qemu.record import Frame, MachineRecord, read_record, write_record
from bhatti.engines.qemu.snapshot import Manifest
from bhatti.errors import CorruptData

CONFIG_DRIVE, LAYER_DRIVE = 2, 3
"""Where the two drives that belong to one machine alone are in the guest's order."""


@dataclass(frozen=True, slots=True)
class Mold:
    """What `read_mold` found to be whole. Its record says who the machine was; its frame names the mold's files."""

    files: MachineFiles
    record: MachineRecord
    manifest: Manifest

    @property
    def frame(self) -> Frame:
        """The machine that the memory knows about."""
        assert self.record.frame is not None
        return self.record.frame

    @property
    def has_memory_file(self) -> bool:
        """Whether the memory can be mapped; if not, it is in the state and has to be read."""
        return self.manifest.memory is not None


def read_mold(host: QemuHost, directory: Path) -> Mold | str:
    """Return the mold in `directory`, or why it cannot be used here and now. Blocks."""
    manifest = snapshot.read_manifest(directory)
    if isinstance(manifest, str):
        return manifest
    try:
        record = read_record(directory)
    except CorruptData as error:
        return error.message
    if record is None or record.frame is None:
        return f"{directory} says nothing of its machine"
    obstacle = snapshot.obstacle(manifest, snapshot.maker_of(host), card=record.network)
    return obstacle or Mold(MachineFiles(directory), record, manifest)


def read_whole_mold(host: QemuHost, directory: Path) -> Mold | str:
    """Do as `read_mold` does, and check the content of the memory, which reads all of it. Blocks."""
    found = read_mold(host, directory)
    if isinstance(found, str) or found.manifest.memory is None:
        return found
    damage = content_damage(found.manifest.memory)
    return found if damage is None else f"the memory file of its memory snapshot {damage}"


def copy_machine(
    source: MachineFiles, record: MachineRecord, target: MachineFiles, *, with_memory: bool = True
) -> MachineRecord:
    """Copy disk and memory of a halted machine into a mold; return the record that goes with it. Blocks."""
    frame = record.frame
    assert frame is not None
    copy_sparse(Path(frame.drives[CONFIG_DRIVE][0]), target.config)
    copy_sparse(source.layer, target.layer)
    if with_memory and not frame.private:
        copy_sparse(source.memory, target.memory)
    drives = with_own_drives(frame, config=target.config, layer=target.layer)
    return msgspec.structs.replace(record, frame=msgspec.structs.replace(frame, drives=drives))


def seal_mold(host: QemuHost, record: MachineRecord, target: MachineFiles, *, lasting: bool = True) -> None:
    """Make the mold exist, durably; one that is `lasting` has a checksum of its memory. Blocks."""
    assert record.frame is not None
    memory = None if record.frame.private else target.memory
    for path in (target.config, target.layer, target.state, *((memory,) if memory else ())):
        sync_file(path)
    write_record(target.directory, record)
    manifest = snapshot.make_manifest(host, record, state=target.state, memory=memory)
    if lasting and manifest.memory is not None:
        record_sum(manifest.memory)
    snapshot.write_manifest(target.directory, manifest)


def with_own_drives(frame: Frame, *, config: Path, layer: Path) -> tuple[tuple[str, bool], ...]:
    """Return the drives of `frame` with another config drive and layer."""
    drives = list(frame.drives)
    drives[CONFIG_DRIVE] = (str(config), True)
    drives[LAYER_DRIVE] = (str(layer), False)
    return tuple(drives)


def with_volumes(frame: Frame, volumes: Sequence[tuple[str, bool]]) -> Frame:
    """Return `frame` with volumes, paths and whether they are read-only, in its first slots; it has enough."""
    drives = (*frame.drives[:FIRST_SLOT], *volumes, *frame.drives[FIRST_SLOT + len(volumes) :])
    assert len(drives) == len(frame.drives)
    return msgspec.structs.replace(frame, drives=drives)


def new_directory(directory: Path) -> None:
    """Make an empty directory for a mold, in the place of one that was never finished. Blocks."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
