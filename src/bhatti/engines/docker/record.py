"""What the engine writes down about a container, so that the next daemon's engine finds it again.

Docker itself knows what runs; here is what it must not know (the token) and what was meant to be. A record is replaced
atomically, so it is always whole. Only its owner can read it.
"""

import enum
from pathlib import Path

import msgspec

from bhatti.durable import write_durably
from bhatti.engines import records
from bhatti.engines.base import CauseOfDeath, Machine
from bhatti.errors import Conflict
from bhatti.model.sandbox import SandboxSpec, Status, Temperature

RECORD_FILE = "container.json"


class Phase(enum.StrEnum):
    """How far a container has come. Found at start, those that end in -ing mean: undo, or finish."""

    CREATING = "creating"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    DESTROYING = "destroying"


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is not asked of Docker.

    `container` is Docker's id of it (empty: not made yet), `home` the name of the directory that is mounted in it,
    `agent` the version of the agent that it mounts, `pid` and `address` those of its last start; `created_at` is in
    seconds since the epoch.
    """

    version: int = 1
    phase: Phase
    spec: SandboxSpec
    created_at: float
    home: str
    container: str = ""
    agent: str = ""
    runtime: str = ""
    pid: int = 0
    address: str = ""
    how: str = "booted"
    why: str = ""
    timings_ms: dict[str, float] = {}
    cause: CauseOfDeath | None = None


STATUSES = {
    Phase.CREATING: Status.CREATING,
    Phase.STARTING: Status.STOPPED,
    Phase.RUNNING: Status.RUNNING,
    Phase.STOPPING: Status.RUNNING,
    Phase.STOPPED: Status.STOPPED,
    Phase.FAILED: Status.FAILED,
    Phase.DESTROYING: Status.FAILED,
}


def describe(record: ContainerRecord, *, paused: bool, why: str) -> Machine:
    """Return the machine as callers of the engine see it."""
    status = STATUSES[record.phase]
    awake = Temperature.WARM if paused else Temperature.HOT
    running = status is Status.RUNNING
    return Machine(
        id=record.spec.id,
        status=status,
        temperature=awake if running else Temperature.COLD,
        address=(record.address or None) if running else None,
        pid=record.pid if running else None,
        accelerator=record.runtime,
        how=record.how,
        why=why,
        timings_ms=record.timings_ms,
        cause=record.cause,
    )


def not_running(record: ContainerRecord, *, paused: bool, wanted: str) -> Conflict:
    """Return the error for somebody who needs it to be `wanted`, which it is not."""
    now = "paused" if paused and record.phase is Phase.RUNNING else record.phase
    cause = f": {record.cause.detail}" if record.cause else ""
    return Conflict(
        f"sandbox {record.spec.name!r} is {now}, not {wanted}{cause}",
        hint=f"`bhatti inspect {record.spec.name}` shows how it is",
        code="not-running",
    )


def wreck(sandbox_id: str, detail: str) -> ContainerRecord:
    """Return a stand-in for a record that cannot be read: enough to show the sandbox and to destroy it."""
    cause = CauseOfDeath(kind="host-crash", detail=detail)
    return ContainerRecord(
        phase=Phase.FAILED, spec=records.nobody(sandbox_id), created_at=0.0, home=sandbox_id, cause=cause
    )


def write_record(directory: Path, record: ContainerRecord) -> None:
    """Replace the record in `directory`, durably."""
    write_durably(directory / RECORD_FILE, msgspec.json.encode(record), mode=0o600)


def read_record(directory: Path) -> ContainerRecord | None:
    """Return the record, or None if there is none. Raises `CorruptData` (code `record-corrupt`)."""
    return records.read(directory / RECORD_FILE, ContainerRecord)
