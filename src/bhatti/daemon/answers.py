"""What the daemon knows, in the words of the API."""

from collections.abc import Iterable

from bhatti.engines.base import Machine
from bhatti.model.sandbox import Status, Temperature
from bhatti.operations import types
from bhatti.store.sandboxes import Record


def sandbox(record: Record, machine: Machine | None) -> types.Sandbox:
    """Return a sandbox as callers see it; `machine` is None when the engine has nothing running for it."""
    spec, facts = record.spec, record.facts
    return types.Sandbox(
        id=record.id,
        name=record.name,
        status=record.status,
        thermal=Temperature.COLD if machine is None else machine.temperature,
        image=spec.image,
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
        engine_meta={"pid": str(machine.pid)} if machine is not None and machine.pid else {},
        created_by=record.owner,
        stopped_at=record.stopped_at,
        cause=None
        if record.cause is None
        else types.Cause(kind=record.cause.kind, detail=record.cause.detail, console_tail=record.cause.console_tail),
    )


def newest_first(records: Iterable[Record]) -> list[Record]:
    """Return the records in the order of listings."""
    return sorted(records, key=lambda record: (record.created_at, record.id), reverse=True)
