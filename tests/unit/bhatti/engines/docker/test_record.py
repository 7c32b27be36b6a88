from pathlib import Path

from tests.unit.bhatti.engines.docker.conftest import new_spec

from bhatti.engines.base import CauseOfDeath
from bhatti.engines.docker.record import (
    STATUSES,
    ContainerRecord,
    Phase,
    describe,
    not_running,
    read_record,
    wreck,
    write_record,
)
from bhatti.model.sandbox import Status, Temperature

RECORD = ContainerRecord(
    phase=Phase.RUNNING, spec=new_spec(), created_at=1.5, home="box", container="c0ffee", pid=7, address="1.2.3.4"
)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["container.json"]


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    assert (tmp_path / "container.json").stat().st_mode & 0o077 == 0


def test_no_record_is_none(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None


def test_every_phase_has_a_status() -> None:
    assert STATUSES.keys() == set(Phase)


def test_a_running_container_is_described_with_address_and_pid() -> None:
    machine = describe(RECORD, paused=False, why="because")
    assert (machine.status, machine.temperature) == (Status.RUNNING, Temperature.HOT)
    assert (machine.address, machine.pid, machine.why) == ("1.2.3.4", 7, "because")
    assert describe(RECORD, paused=True, why="").temperature is Temperature.WARM


def test_one_that_does_not_run_has_neither() -> None:
    cause = CauseOfDeath(kind="oom", detail="too much")
    failed = ContainerRecord(
        phase=Phase.FAILED, spec=RECORD.spec, created_at=0, home="box", pid=7, address="1.2.3.4", cause=cause
    )
    machine = describe(failed, paused=False, why="")
    assert (machine.status, machine.temperature, machine.cause) == (Status.FAILED, Temperature.COLD, cause)
    assert (machine.address, machine.pid) == (None, None)


def test_a_wreck_can_be_shown() -> None:
    machine = describe(wreck("box", "unreadable"), paused=False, why="")
    assert (machine.id, machine.status) == ("box", Status.FAILED)
    assert wreck("box", "").home == "box", "never that of all"
    assert machine.cause is not None
    assert machine.cause.detail == "unreadable"


def test_who_needs_it_otherwise_is_told_how_it_is() -> None:
    assert "is paused, not hot" in not_running(RECORD, paused=True, wanted="hot").message
    cause = CauseOfDeath(kind="oom", detail="too much")
    failed = ContainerRecord(phase=Phase.FAILED, spec=RECORD.spec, created_at=0, home="box", cause=cause)
    error = not_running(failed, paused=True, wanted="running")
    assert error.code == "not-running"
    assert "is failed, not running: too much" in error.message
