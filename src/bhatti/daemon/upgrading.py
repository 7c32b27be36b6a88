"""What an upgrade of Firecracker would strand: memory snapshots that the new one could not load."""

import datetime
from pathlib import Path

from bhatti.daemon.settings import Settings
from bhatti.engines.firecracker.version import find_firecracker
from bhatti.engines.qemu.snapshot import stored_bytes
from bhatti.engines.qemu.stored import Stored, stored
from bhatti.errors import Forbidden
from bhatti.operations.types import StoredSnapshot


def snapshots(settings: Settings) -> list[StoredSnapshot]:
    """Return all memory snapshots below the state directory. Blocks. Raises `Forbidden` (code `state-unreadable`)."""
    return [_answer(one, None) for one in _stored(settings)]


def stranded(settings: Settings, firecracker: str) -> list[StoredSnapshot]:
    """Return those that the Firecracker at a path could not load, or (empty path) that of the settings. Blocks.

    Raises `Forbidden` like `snapshots`, and `MissingDependency` like `find_firecracker`.
    """
    program = find_firecracker(firecracker or settings.firecracker.binary)
    judged = ((one, one.unreadable(program.version, program.snapshot_format)) for one in _stored(settings))
    return [_answer(one, why) for one, why in judged if why is not None]


def _stored(settings: Settings) -> list[Stored]:
    try:
        return stored(Path(settings.state_dir) / "sandboxes")
    except PermissionError as error:
        raise Forbidden(
            f"what {settings.state_dir} holds cannot be read by this user",
            hint="run it as the user that the daemon runs as: sudo bhatti snapshot ls",
            code="state-unreadable",
        ) from error


def _answer(found: Stored, why: str | None) -> StoredSnapshot:
    manifest = found.manifest
    if manifest is None:
        return StoredSnapshot(sandbox=found.sandbox, checkpoint=found.checkpoint, stranded=why or found.damage)
    try:
        size = stored_bytes(manifest)
    except FileNotFoundError:  # its sandbox goes on, or is removed, at this moment
        size = 0
    return StoredSnapshot(
        sandbox=found.sandbox,
        checkpoint=found.checkpoint,
        engine=manifest.maker.engine,
        version=manifest.maker.version,
        created_at=datetime.datetime.fromtimestamp(manifest.taken_at, datetime.UTC),
        size_bytes=size,
        stranded=why or "",
    )
