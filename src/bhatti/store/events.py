"""Rows of the table `events`: what happened, in order, for people and for programs that watch."""

import datetime
import sqlite3

import msgspec

from bhatti.store.sandboxes import now

KEPT = datetime.timedelta(days=90)
"""Older rows go as new ones come."""

KEPT_ALWAYS = 1000
"""The latest rows stay whatever their age: a clock that jumps years ahead for a moment must not take all there is."""

KEPT_ROWS = 1_000_000
"""A sandbox made and ended every ten seconds for those 90 days fits; a daemon in a loop does not fill the disk."""


class Event(msgspec.Struct, frozen=True):
    """Something that happened. `sandbox` is its name at that time; `detail` is for people and holds no secret."""

    id: int
    at: datetime.datetime
    kind: str
    sandbox_id: str | None
    detail: str
    sandbox: str | None = None
    owner: str = ""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events somebody wants: those of one sandbox (its id, or a name that it had), those of one owner."""

    sandbox: str | None = None
    owner: str | None = None


class Batch(msgspec.Struct, frozen=True):
    """Events after a cursor, in order. `cursor` is where the next batch begins, `skipped` that some were left out."""

    events: list[Event]
    cursor: int
    skipped: bool
    full: bool


ALL = Wanted()


def add(
    connection: sqlite3.Connection, kind: str, sandbox_id: str | None = None, detail: str = "", owner: str = ""
) -> None:
    """Note that something happened, under the name and owner that the sandbox's row has; forget what is too old.

    `owner` is whose it is where there is no sandbox.
    """
    moment = now()
    cursor = connection.execute(
        "INSERT INTO events (at, kind, sandbox_id, detail, sandbox, owner) VALUES (?1, ?2, ?3, ?4,"
        " (SELECT name FROM sandboxes WHERE id = ?3), coalesce((SELECT owner FROM sandboxes WHERE id = ?3), ?5))",
        (moment.isoformat(), kind, sandbox_id, detail, owner),
    )
    last = cursor.lastrowid or 0
    connection.execute("DELETE FROM events WHERE at < ? AND id <= ?", ((moment - KEPT).isoformat(), last - KEPT_ALWAYS))
    connection.execute("DELETE FROM events WHERE id <= ?", (last - KEPT_ROWS,))


def latest(connection: sqlite3.Connection, limit: int = 100, wanted: Wanted = ALL) -> list[Event]:
    """Return the last `limit` events that are wanted, the oldest of them first."""
    return _selected(connection, wanted, "id > 0 ORDER BY id DESC LIMIT ?", (limit,))[::-1]


def after(connection: sqlite3.Connection, cursor: int, limit: int, wanted: Wanted = ALL) -> list[Event]:
    """Return the first `limit` wanted events with ids beyond `cursor`, the oldest first."""
    return _selected(connection, wanted, "id > ? ORDER BY id LIMIT ?", (cursor, limit))


def batch(connection: sqlite3.Connection, cursor: int, limit: int, max_behind: int, wanted: Wanted = ALL) -> Batch:
    """Return what a reader at `cursor` gets next: at most `limit` events, none more than `max_behind` before the last.

    What is older, or not kept any more, is skipped.
    """
    oldest, newest = span(connection)
    first = max(min(cursor, newest), newest - max_behind, oldest - 1)
    found = after(connection, first, limit, wanted)
    full = len(found) == limit
    return Batch(found, found[-1].id if full else max(first, newest), skipped=first > cursor, full=full)


def span(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the ids of the oldest event that is kept, and of the newest that there ever was."""
    oldest = connection.execute("SELECT min(id) FROM events").fetchone()[0]
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name='events'").fetchone()
    newest = int(row[0]) if row is not None else 0
    return (newest + 1 if oldest is None else int(oldest)), newest


def _selected(connection: sqlite3.Connection, wanted: Wanted, rest: str, values: tuple[int, ...]) -> list[Event]:
    conditions, given = "", list[str | int]()
    if wanted.sandbox is not None:
        conditions += "(sandbox_id = ? OR sandbox = ?) AND "
        given += [wanted.sandbox, wanted.sandbox]
    if wanted.owner is not None:
        conditions += "owner = ? AND "
        given.append(wanted.owner)
    rows = connection.execute(f"SELECT * FROM events WHERE {conditions}{rest}", (*given, *values))
    return [
        Event(
            row["id"],
            datetime.datetime.fromisoformat(row["at"]),
            row["kind"],
            row["sandbox_id"],
            row["detail"],
            row["sandbox"],
            row["owner"],
        )
        for row in rows
    ]
