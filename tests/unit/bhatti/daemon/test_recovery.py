"""Every case of what an earlier daemon can have left, as a table; and that the plan is carried out."""

import datetime
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.engines.fake import FakeEngine, machine
from tests.unit.bhatti.store.rows import record

from bhatti.daemon.recovery import Recovery, Step, facts_of, last_words, plan
from bhatti.engines.base import Machine
from bhatti.errors import EngineFailure
from bhatti.model.sandbox import Status
from bhatti.store.database import Database
from bhatti.store.intents import Intent, Kind
from bhatti.store.journal import Journal, destroyed
from bhatti.store.sandboxes import LastWords, Record, now

RUNNING, STOPPED, FAILED, CREATING = Status.RUNNING, Status.STOPPED, Status.FAILED, Status.CREATING


def decide(
    row: Record | None, found: Machine | None, order: Kind | None = None, *, store_is_new: bool = False
) -> list[Step]:
    actions = plan(
        [row] if row else [],
        [Intent(order, "aa", now())] if order else [],
        [found] if found else [],
        engine="local",
        store_is_new=store_is_new,
    )
    assert all(action.sandbox_id == "aa" and action.reason for action in actions)
    return [action.step for action in actions]


@pytest.mark.parametrize(
    ("was", "found", "step"),
    [
        (RUNNING, machine("aa"), Step.ADOPT),
        (RUNNING, machine("aa", STOPPED), Step.STOPPED),
        (RUNNING, machine("aa", FAILED, "it panicked"), Step.FAILED),
        (RUNNING, None, Step.FAILED),
        (STOPPED, machine("aa", STOPPED), Step.KEEP),
        (STOPPED, machine("aa"), Step.ADOPT),
        (STOPPED, None, Step.FAILED),
        (FAILED, machine("aa", FAILED), Step.KEEP),
        (FAILED, machine("aa"), Step.ADOPT),
        (FAILED, machine("aa", STOPPED), Step.STOPPED),
        (CREATING, machine("aa"), Step.UNDO_CREATE),
        (CREATING, None, Step.UNDO_CREATE),
    ],
)
def test_the_row_follows_the_machine(was: Status, found: Machine | None, step: Step) -> None:
    assert decide(record("aa", status=was), found) == [step]


@pytest.mark.parametrize("found", [None, machine("aa"), machine("aa", FAILED)])
def test_a_creation_nobody_heard_of_is_undone(found: Machine | None) -> None:
    assert decide(record("aa", status=CREATING), found, Kind.CREATE) == [Step.UNDO_CREATE]


@pytest.mark.parametrize("was", [RUNNING, STOPPED, FAILED])
@pytest.mark.parametrize("found", [None, machine("aa"), machine("aa", FAILED)])
def test_a_destruction_that_was_begun_is_finished(was: Status, found: Machine | None) -> None:
    assert decide(record("aa", status=was), found, Kind.DESTROY) == [Step.FINISH_DESTROY]


def test_a_destroyed_sandbox_is_passed_over_unless_its_machine_is_still_there() -> None:
    gone = destroyed(record("aa"))
    assert decide(gone, None) == [Step.SKIP]
    assert decide(gone, machine("aa")) == [Step.FINISH_DESTROY]


def test_another_engines_sandbox_is_passed_over() -> None:
    assert decide(msgspec.structs.replace(record("aa"), engine="docker"), None, Kind.DESTROY) == [Step.SKIP]


def test_a_machine_that_no_row_knows_is_removed() -> None:
    assert decide(None, machine("aa")) == [Step.REMOVE]


def test_a_machine_that_a_new_store_does_not_know_is_left_alone() -> None:
    assert decide(None, machine("aa"), store_is_new=True) == [Step.LEAVE]


def test_many_are_decided_each_by_itself() -> None:
    rows = [record("a1", "a"), record("a2", "b", STOPPED), record("a3", "c", CREATING), record("a4", "d")]
    machines = [machine("a1"), machine("a2", STOPPED), machine("a9")]
    actions = plan(rows, [Intent(Kind.DESTROY, "a4", now())], machines, engine="local")
    assert [(action.sandbox_id, action.step) for action in actions] == [
        ("a1", Step.ADOPT),
        ("a2", Step.KEEP),
        ("a3", Step.UNDO_CREATE),
        ("a4", Step.FINISH_DESTROY),
        ("a9", Step.REMOVE),
    ]


def test_the_cause_of_death_is_the_machines_own_or_what_can_be_told_without_it() -> None:
    assert last_words(None, "gone") == LastWords(kind="host-crash", detail="gone")
    assert last_words(machine("aa", FAILED, "it panicked"), "") == LastWords(
        kind="guest-panic", detail="it panicked", console_tail="panic"
    )
    assert facts_of(machine("aa")).address == "10.0.0.9"


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    database = await Database.open(tmp_path / "state.db")
    database.created = False
    yield Journal(database)
    await database.aclose()


async def fill(journal: Journal, *rows: Record) -> None:
    for row in rows:
        await journal.begin_create(row)
        if row.status is not CREATING:
            await journal.finish_create(row)


async def statuses(journal: Journal) -> dict[str, Status]:
    return {row.id: row.status for row in await journal.sandboxes()}


@pytest.mark.anyio
async def test_the_plan_is_carried_out_and_nothing_is_left_open(journal: Journal) -> None:
    await fill(
        journal,
        record("a1", "runs"),
        record("a2", "died"),
        record("a3", "half-made", CREATING),
        record("a4", "half-ended"),
        record("a5", "sleeps"),
        record("a6", "gone"),
    )
    await journal.begin_destroy("a4")
    engine = FakeEngine(
        [machine("a1"), machine("a2", FAILED, "it panicked"), machine("a3"), machine("a4"), machine("a5", STOPPED)]
    )
    engine.machines["zz"] = machine("zz")
    await Recovery(journal, engine).run()
    assert engine.destroyed == ["a3", "a4", "zz"]
    assert await journal.intents() == []
    rows = {row.id: row for row in await journal.sandboxes()}
    assert {key: row.status for key, row in rows.items()} == {
        "a1": RUNNING,
        "a2": FAILED,
        "a4": Status.DESTROYED,
        "a5": STOPPED,
        "a6": FAILED,
    }
    assert rows["a1"].facts.address == "10.0.0.9"
    assert rows["a2"].cause == LastWords(kind="guest-panic", detail="it panicked", console_tail="panic")
    assert rows["a6"].cause == LastWords(kind="host-crash", detail="its machine is gone")
    assert isinstance(rows["a5"].stopped_at, datetime.datetime)


@pytest.mark.anyio
async def test_a_second_recovery_finds_nothing_to_do(journal: Journal) -> None:
    await fill(journal, record("a1", "runs"), record("a2", "died"))
    engine = FakeEngine([machine("a1")])
    await Recovery(journal, engine).run()
    before = await journal.sandboxes()
    actions = await Recovery(journal, engine).run()
    assert {action.step for action in actions} <= {Step.ADOPT, Step.FAILED}
    assert [row.status for row in await journal.sandboxes()] == [row.status for row in before]


@pytest.mark.anyio
@pytest.mark.parametrize("failure", [EngineFailure("the process does not die"), OSError(28, "No space left on device")])
async def test_one_that_cannot_be_settled_does_not_hold_up_the_rest_and_is_tried_again(
    journal: Journal, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    await fill(journal, record("a1", "one", CREATING), record("a2", "two", CREATING))
    engine = FakeEngine([machine("a1"), machine("a2")])
    engine.failing["a1"] = failure
    with caplog.at_level(logging.ERROR):
        await Recovery(journal, engine).run()
    assert "could not undo-create sandbox a1" in caplog.text
    assert await statuses(journal) == {"a1": CREATING}
    engine.failing.clear()
    await Recovery(journal, engine).run()
    assert await statuses(journal) == {}


@pytest.mark.anyio
async def test_what_a_new_store_does_not_know_is_left_and_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = await Database.open(tmp_path / "new.db")
    engine = FakeEngine([machine("zz")])
    await Recovery(Journal(database), engine).run()
    await database.aclose()
    assert engine.destroyed == []
    assert "machine zz is left alone" in caplog.text
