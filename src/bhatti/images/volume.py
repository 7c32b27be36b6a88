"""Volumes: sparse ext4 file systems that belong to no sandbox, made and grown without mounting them."""

import os
from pathlib import Path

from bhatti.durable import sync_file
from bhatti.errors import CorruptData, EngineFailure
from bhatti.images.ext4 import make_ext4, space_needed
from bhatti.images.layer import FEATURES
from bhatti.images.programs import run_program

JOURNAL_MIB = 16
"""For volumes from `MIN_JOURNALLED_MIB` on; as with layers, every block it has ever used is real space."""

MIN_JOURNALLED_MIB = 64
"""Smaller ones are better off without a journal than with most of their space taken by one."""

OWNER = "1000:1000"
"""The user of every sandbox, in numbers."""


def make_volume(path: Path, size_mib: int) -> None:
    """Create an empty volume of `size_mib` MiB (at least 1), its root directory that of uid 1000. Durable. Blocks.

    Some milliseconds and some hundred KiB, whatever its size; 1 TiB takes 12 MiB. On failure no file is left. Raises
    `MissingDependency`, `OutOfSpace`, `EngineFailure`.
    """
    journalled = size_mib >= MIN_JOURNALLED_MIB
    make_ext4(
        path,
        size_mib << 20,
        label="bhatti-volume",
        options=(
            "-b", "4096", "-I", "256",
            "-O", FEATURES if journalled else FEATURES.replace("has_journal,", ""),
            *(("-J", f"size={JOURNAL_MIB}") if journalled else ()),
            "-E", f"assume_storage_prezeroed=1,lazy_journal_init=1,nodiscard,root_owner={OWNER}",
        ),
    )  # fmt: skip
    sync_file(path)


def grow_volume(path: Path, size_mib: int) -> None:
    """Make the file system in `path` that large, which is more than it was. Durable. Blocks.

    Nobody may have it mounted. Interrupted, it may be damaged: work on a copy. Raises like `make_volume`, and
    `CorruptData` (code `volume-corrupt`).
    """
    journalled = "has_journal" in _header(path)
    with space_needed(path):
        os.truncate(path, size_mib << 20)
    # -f: it was not checked right before, as its rules want; what it works on is a copy.
    run_program(["resize2fs", "-f", path])
    if not journalled and size_mib >= MIN_JOURNALLED_MIB:
        run_program(["tune2fs", "-O", "has_journal", "-J", f"size={JOURNAL_MIB}", path])
    sync_file(path)


def check_volume(path: Path) -> None:
    """Raise `CorruptData` (code `volume-corrupt`) unless `path` begins as a file system and has all of it. Blocks."""
    header = dict(line.split(":", 1) for line in _header(path).splitlines() if ":" in line)
    try:
        wanted = int(header["Block count"]) * int(header["Block size"])
    except (KeyError, ValueError) as error:
        raise corrupt(path, "its size cannot be told") from error
    if (size := path.stat().st_size) < wanted:
        raise corrupt(path, f"it has {size} of {wanted} bytes")


def corrupt(path: Path, reason: str) -> CorruptData:
    """Return the error for a volume that cannot be used."""
    return CorruptData(
        f"the volume in {path} is damaged: {reason}",
        hint=f"try `e2fsck -f {path}`, or bring back a copy of the file",
        code="volume-corrupt",
    )


def _header(path: Path) -> str:
    """Return what dumpe2fs(8) reads in the superblock, whose checksum it compares."""
    try:
        return run_program(["dumpe2fs", "-h", path])
    except EngineFailure as error:
        raise corrupt(path, error.message.splitlines()[-1]) from error
