"""Rows of the table `events`: what happened, in order, for people and for programs that watch."""

import datetime
import sqlite3

import msgspec

from bhatti.store.sandboxes import now

KEPT = 10_000
"""Older rows go as new ones come; a busy day of creates and destroys fits."""


class Event(msgspec.Struct, frozen=True):
    """Something that happened. `detail` is for people and holds no secret."""

    id: int
    at: datetime.datetime
    kind: str
    sandbox_id: str | None
    detail: str


def add(connection: sqlite3.Connection, kind: str, sandbox_id: str | None = None, detail: str = "") -> None:
    """Note that something happened, and forget what is too long ago."""
    cursor = connection.execute(
        "INSERT INTO events (at, kind, sandbox_id, detail) VALUES (?, ?, ?, ?)",
        (now().isoformat(), kind, sandbox_id, detail),
    )
    connection.execute("DELETE FROM events WHERE id <= ?", ((cursor.lastrowid or 0) - KEPT,))


def latest(connection: sqlite3.Connection, limit: int = 100) -> list[Event]:
    """Return the last `limit` events, the oldest of them first."""
    rows = connection.execute("SELECT * FROM events ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
    return [
        Event(row["id"], datetime.datetime.fromisoformat(row["at"]), row["kind"], row["sandbox_id"], row["detail"])
        for row in reversed(rows)
    ]
