import msgspec
from tests.engines.fake import machine
from tests.unit.bhatti.store.rows import record

from bhatti.daemon import answers
from bhatti.model.sandbox import Status, Temperature
from bhatti.store.sandboxes import LastWords, now


def test_a_running_sandbox_has_its_address_and_temperature() -> None:
    shown = answers.sandbox(record(), machine(record().id))
    assert (shown.status, shown.thermal, shown.ip) == (Status.RUNNING, Temperature.HOT, "10.0.0.2")
    assert (shown.cpus, shown.memory_mb, shown.disk_size_mb, shown.engine_id) == (1, 512, 1024, shown.id)
    assert shown.timings_ms == {"kernel": 1.5}


def test_nothing_secret_is_shown() -> None:
    row = record()
    shown = msgspec.json.encode(answers.sandbox(row, None)).decode()
    for hidden in (row.spec.token, *row.spec.env.values()):
        assert f'"{hidden}"' not in shown


def test_a_dead_sandbox_has_its_cause_and_no_address() -> None:
    dead = msgspec.structs.replace(record(), status=Status.FAILED, cause=LastWords(kind="oom", detail="too much"))
    shown = answers.sandbox(dead, None)
    assert (shown.ip, shown.thermal) == (None, Temperature.COLD)
    assert shown.cause is not None
    assert (shown.cause.kind, shown.cause.detail) == ("oom", "too much")


def test_the_pid_of_the_machine_is_told() -> None:
    shown = answers.sandbox(record(), msgspec.structs.replace(machine(record().id), pid=42))
    assert shown.engine_meta == {"pid": "42"}


def test_what_the_engine_alone_knows_of_a_machine_is_told_beside_it() -> None:
    known = msgspec.structs.replace(machine(record().id), pid=42, details={"guest_free_mib": "100"})
    assert answers.sandbox(record(), known).engine_meta == {"pid": "42", "guest_free_mib": "100"}


def test_the_newest_come_first() -> None:
    late = msgspec.structs.replace(record("bb", "late"), created_at=now())
    assert [found.name for found in answers.newest_first([record("aa", "early"), late])] == ["late", "early"]
