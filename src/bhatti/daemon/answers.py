"""What the daemon knows, in the words of the API."""

import datetime
from collections.abc import Iterable

from bhatti.daemon.owned_volumes import prefix_of
from bhatti.engines.base import Checkpoint, Machine, SnapshotReport
from bhatti.errors import Conflict
from bhatti.model.sandbox import Status, Temperature
from bhatti.operations import types
from bhatti.store.sandboxes import Record


def sandbox(record: Record, machine: Machine | None, reason: str = "") -> types.Sandbox:
    """Return a sandbox as callers see it; `machine` is None when the engine has nothing running for it.

    `reason` is why it is as awake as it is.
    """
    spec, facts = record.spec, record.facts
    return types.Sandbox(
        id=record.id,
        name=record.name,
        status=record.status,
        thermal=Temperature.COLD if machine is None else machine.temperature,
        thermal_reason=reason,
        keep_hot=record.preferences.keep_hot,
        warm_after_s=record.preferences.warm_after_s,
        cold_after_s=record.preferences.cold_after_s,
        labels=record.preferences.labels,
        image=spec.image.removeprefix(prefix_of(record.owner)),
        cpus=spec.cpus,
        memory_mb=spec.memory_mib,
        disk_size_mb=spec.disk_mib,
        created_at=record.created_at,
        engine=record.engine,
        engine_id=record.id,
        ip=facts.address if record.status is Status.RUNNING else None,
        accelerator=facts.accelerator,
        how=facts.how,
        why=facts.why,
        timings_ms=facts.timings_ms,
        engine_meta={"pid": str(machine.pid)} | machine.details if machine is not None and machine.pid else {},
        volumes=[
            types.Mounted(name=v.name.removeprefix(prefix_of(record.owner)), mount=v.target, read_only=v.read_only)
            for v in spec.volumes
        ],
        template_id=record.origin.template_id,
        secrets=sorted({use.name for use in record.origin.secrets}),
        created_by=record.owner,
        stopped_at=record.stopped_at,
        cause=None
        if record.cause is None
        else types.Cause(kind=record.cause.kind, detail=record.cause.detail, console_tail=record.cause.console_tail),
    )


def checkpoint(found: Checkpoint) -> types.Checkpoint:
    """Return a checkpoint as callers see it."""
    return types.Checkpoint(
        name=found.name,
        created_at=datetime.datetime.fromtimestamp(found.created_at, datetime.UTC),
        size_bytes=found.size_bytes,
        usable=found.usable,
        detail=found.detail,
    )


def snapshot_report(found: SnapshotReport) -> types.SnapshotReport:
    """Return what was found about a snapshot as callers see it."""
    return types.SnapshotReport(
        usable=found.usable, detail=found.detail, probed=found.probed, size_bytes=found.size_bytes
    )


def newest_first(records: Iterable[Record]) -> list[Record]:
    """Return the records in the order of listings."""
    return sorted(records, key=lambda record: (record.created_at, record.id), reverse=True)


def asleep(record: Record) -> Conflict:
    """Return the error for a call into a sandbox that sleeps and was not to be woken."""
    return Conflict(
        f"sandbox {record.name!r} is asleep", hint=f"`bhatti start {record.name}`, or any call, wakes it", code="asleep"
    )


def not_running(record: Record) -> Conflict:
    """Return the error for a call into a sandbox that cannot be woken, with its cause of death."""
    if record.status is Status.FAILED:
        cause = f": {record.cause.detail}" if record.cause else ""
        return Conflict(
            f"sandbox {record.name!r} has failed{cause}",
            hint=f"`bhatti start {record.name}` boots it from its disk; `bhatti inspect {record.name}` says more",
            code="not-running",
        )
    state = "running, but not to be used now" if record.status is Status.RUNNING else f"{record.status}, not running"
    return Conflict(
        f"sandbox {record.name!r} is {state}",
        hint=f"`bhatti inspect {record.name}` shows how it is",
        code="not-running",
    )
