"""Which files of images the machines of an engine cannot do without: those that they were told to be made of."""

from collections.abc import Iterator
from pathlib import Path

from bhatti.engines.qemu.files import directories_in
from bhatti.engines.qemu.record import MachineRecord, Phase, read_record
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import Busy, CorruptData


def needed_files(settings: QemuSettings) -> frozenset[Path]:
    """Return the read-only files of all machines, awake or asleep, of checkpoints and of golden snapshots. Blocks.

    Raises `Busy` while a machine is being made or booted again: it has looked for its files, perhaps, and not yet
    written down which they are.
    """
    found: set[Path] = set()
    for directory in _homes(settings):
        try:
            record = read_record(directory)
        except CorruptData:
            continue  # such a machine can only be destroyed
        if record is not None:
            found |= _files_of(record)
    return frozenset(found)


def _homes(settings: QemuSettings) -> Iterator[Path]:
    """Yield every directory that may have a record of a machine, or of a mold."""
    for parent in (settings.sandboxes_dir, settings.golden_dir, settings.molds_dir):
        if parent.exists():
            for directory in directories_in(parent):
                yield directory
                yield from directory.glob("checkpoints/*")


def _files_of(record: MachineRecord) -> set[Path]:
    frame = record.frame
    # Where a fork is made its mold is there too, and has the same files. A boot has none before its process is there.
    if record.phase is Phase.STARTING or (record.phase is Phase.CREATING and frame is None):
        raise Busy(
            f"sandbox {record.spec.name!r} is coming up: what it needs is not known yet", hint="try again in a moment"
        )
    if frame is None:
        return set()
    read_only = (Path(path) for path, protected in frame.drives if protected and path)
    return {Path(frame.kernel), Path(frame.initramfs), *read_only}
