"""Rows of the table `tasks`: long work, written down when it begins and when it ends.

A row is its own journal: what a start finds `running` ended with the daemon that ran it.
"""

import datetime
import sqlite3

import msgspec

from bhatti.errors import ErrorBody
from bhatti.model.task import TaskStatus
from bhatti.store.database import Database, Write

KEPT = datetime.timedelta(hours=24)
"""The reference's figure: long enough for who starts something in the evening."""

KEPT_ROWS = 1000


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the store knows it. `subject` is what it is about and `image` what it has made; neither is a secret."""

    id: str
    kind: str
    subject: str
    begun_at: datetime.datetime
    owner: str = ""
    status: TaskStatus = TaskStatus.RUNNING
    ended_at: datetime.datetime | None = None
    error: ErrorBody | None = None
    image: str | None = None


class TaskJournal:
    """The store as far as tasks go. When a caller is cancelled, what it ordered is written all the same."""

    def __init__(self, database: Database, write: Write) -> None:
        self._database = database
        self._write = write

    async def everything(self) -> list[TaskRecord]:
        """Return every task, the oldest first."""
        return await self._database.read(everything)

    async def note(self, record: TaskRecord) -> None:
        """Write down a task as it is now, and forget those that are too old."""
        await self._write(lambda connection: put(connection, record))

    async def interrupt(self, ended_at: datetime.datetime) -> None:
        """End all tasks that run according to the store: whoever ran them has gone."""
        await self._write(lambda connection: interrupt(connection, ended_at))


def put(connection: sqlite3.Connection, record: TaskRecord) -> None:
    """Write the row of a task, new or anew."""
    values = msgspec.to_builtins(record, builtin_types=(datetime.datetime,))
    values |= {
        "begun_at": record.begun_at.isoformat(),
        "ended_at": None if record.ended_at is None else record.ended_at.isoformat(),
        "error": None if record.error is None else msgspec.json.encode(record.error),
    }
    columns = TaskRecord.__struct_fields__
    connection.execute(
        f"INSERT OR REPLACE INTO tasks ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)})",
        values,
    )
    moment = record.ended_at or record.begun_at  # the clock may have been put back since it began
    connection.execute("DELETE FROM tasks WHERE ended_at < ?", ((moment - KEPT).isoformat(),))
    connection.execute(
        "DELETE FROM tasks WHERE ended_at IS NOT NULL AND id NOT IN"
        " (SELECT id FROM tasks ORDER BY begun_at DESC, id LIMIT ?)",
        (KEPT_ROWS,),
    )


def interrupt(connection: sqlite3.Connection, ended_at: datetime.datetime) -> None:
    """Give an end to all rows that have none."""
    connection.execute(
        "UPDATE tasks SET status=?, ended_at=? WHERE status=?",
        (TaskStatus.INTERRUPTED, ended_at.isoformat(), TaskStatus.RUNNING),
    )


def everything(connection: sqlite3.Connection) -> list[TaskRecord]:
    """Return all rows, the oldest first."""
    return [
        TaskRecord(
            id=row["id"],
            kind=row["kind"],
            subject=row["subject"],
            begun_at=datetime.datetime.fromisoformat(row["begun_at"]),
            owner=row["owner"],
            status=TaskStatus(row["status"]),
            ended_at=None if row["ended_at"] is None else datetime.datetime.fromisoformat(row["ended_at"]),
            error=None if row["error"] is None else msgspec.json.decode(row["error"], type=ErrorBody),
            image=row["image"],
        )
        for row in connection.execute("SELECT * FROM tasks ORDER BY begun_at, id")
    ]
