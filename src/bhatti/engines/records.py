"""What engines write down about their machines, so far as they read it alike; what is in a record is each one's own."""

from pathlib import Path
from typing import TypeVar

import msgspec

from bhatti.errors import CorruptData
from bhatti.model.sandbox import SandboxSpec

R = TypeVar("R", bound=msgspec.Struct)


def read(path: Path, kind: type[R]) -> R | None:
    """Return the record at `path`, or None if there is none. Raises `CorruptData` (code `record-corrupt`)."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise CorruptData(
            f"{path} cannot be read: {error}", hint="the sandbox can only be destroyed", code="record-corrupt"
        ) from error


def nobody(sandbox_id: str) -> SandboxSpec:
    """Return what stands for a sandbox whose record cannot be read: enough to show it and to destroy it."""
    return SandboxSpec(id=sandbox_id, name=sandbox_id, image="", cpus=1, memory_mib=128, disk_mib=1, token="")
