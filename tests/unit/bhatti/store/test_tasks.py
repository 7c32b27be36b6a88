import datetime
import sqlite3

import msgspec
import pytest

from bhatti.errors import ErrorBody
from bhatti.model.task import TaskStatus
from bhatti.store import tasks
from bhatti.store.database import Database
from bhatti.store.journal import Journal
from bhatti.store.tasks import KEPT, TaskRecord, everything, interrupt, put

NOW = datetime.datetime(2026, 1, 15, 12, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)

RUNNING = TaskRecord(id="task_1", kind="image-pull", subject="alpine", begun_at=NOW, owner="usr_1")
FAILED = msgspec.structs.replace(
    RUNNING, id="task_2", status=TaskStatus.FAILED, ended_at=NOW + HOUR, error=ErrorBody("no", "not-found", hint="h")
)
DONE = msgspec.structs.replace(RUNNING, id="task_3", status=TaskStatus.DONE, ended_at=NOW + HOUR, image="alpine")


def test_what_is_written_is_read(connection: sqlite3.Connection) -> None:
    for record in (RUNNING, FAILED, DONE):
        put(connection, record)
    assert everything(connection) == [RUNNING, FAILED, DONE]
    put(connection, msgspec.structs.replace(DONE, id="task_1"))
    assert everything(connection)[0].status is TaskStatus.DONE


def test_what_ran_when_its_daemon_ended_was_interrupted(connection: sqlite3.Connection) -> None:
    put(connection, RUNNING)
    put(connection, DONE)
    interrupt(connection, NOW + HOUR)
    first, second = everything(connection)
    assert (first.status, first.ended_at) == (TaskStatus.INTERRUPTED, NOW + HOUR)
    assert second == DONE


def test_the_old_and_the_many_go(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    put(connection, DONE)
    later = msgspec.structs.replace(RUNNING, begun_at=NOW + KEPT + 2 * HOUR)
    put(connection, later)
    assert everything(connection) == [later]
    monkeypatch.setattr(tasks, "KEPT_ROWS", 2)
    for number in range(4):
        begun = later.begun_at + number * HOUR / 60
        put(connection, msgspec.structs.replace(DONE, id=f"task_x{number}", begun_at=begun, ended_at=begun))
    assert [record.id for record in everything(connection)] == ["task_1", "task_x2", "task_x3"]


def test_a_task_that_ends_before_it_began_stays(connection: sqlite3.Connection) -> None:
    """The clock was ahead by days when it began, and has been put right."""
    put(connection, FAILED)
    put(connection, msgspec.structs.replace(DONE, begun_at=NOW + 3 * KEPT, ended_at=NOW + 2 * HOUR))
    assert [record.id for record in everything(connection)] == ["task_2", "task_3"]


@pytest.mark.anyio
async def test_the_journal_has_them(database: Database) -> None:
    journal = Journal(database)
    await journal.tasks.note(RUNNING)
    await journal.tasks.interrupt(NOW + HOUR)
    assert [record.status for record in await journal.tasks.everything()] == [TaskStatus.INTERRUPTED]
