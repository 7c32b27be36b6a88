"""Memory at rest below a state directory, read without an engine: for whoever plans an upgrade."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from bhatti.engines.qemu import snapshot
from bhatti.engines.qemu.files import directories_in
from bhatti.engines.qemu.record import read_record
from bhatti.engines.qemu.snapshot import Maker, Manifest
from bhatti.errors import CorruptData


@dataclass(frozen=True, slots=True)
class Stored:
    """A memory snapshot: of the sandbox itself, or one of its checkpoints.

    `manifest` is None if it cannot be read, and `damage` says why.
    """

    sandbox: str
    checkpoint: str
    manifest: Manifest | None
    damage: str = ""

    def unreadable(self, version: str, snapshot_format: str) -> str | None:
        """Return why the Firecracker of that version could not load it on the host it was taken on, or None."""
        if self.manifest is None:
            return self.damage
        taken_by = self.manifest.maker
        asked: Maker = msgspec.structs.replace(taken_by, engine="firecracker", version=version, format=snapshot_format)
        return snapshot.unreadable(taken_by, asked)


def stored(sandboxes_dir: Path) -> list[Stored]:
    """Return what is at rest there, by the names of sandboxes. Blocks; raises `OSError`."""
    found: list[Stored] = []
    for directory in directories_in(sandboxes_dir) if sandboxes_dir.exists() else ():
        name = _name(directory)
        parents = [(directory, ""), *((path, path.name) for path in (directory / "checkpoints").glob("*"))]
        for parent, checkpoint in parents:
            if (parent / snapshot.MANIFEST_FILE).exists():
                manifest = snapshot.read_manifest(parent)
                if isinstance(manifest, Manifest):
                    found.append(Stored(name, checkpoint, manifest))
                else:
                    found.append(Stored(name, checkpoint, None, manifest))
    return sorted(found, key=lambda one: (one.sandbox, one.checkpoint))


def _name(directory: Path) -> str:
    try:
        record = read_record(directory)
    except CorruptData:
        record = None
    return directory.name if record is None else record.spec.name
