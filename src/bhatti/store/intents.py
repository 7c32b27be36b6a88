"""Rows of the table `intents`: orders that were begun and not yet settled. At most one per sandbox."""

import datetime
import enum
import sqlite3

import msgspec

from bhatti.store.sandboxes import now


class Kind(enum.StrEnum):
    """What was ordered."""

    CREATE = "create"
    DESTROY = "destroy"


class Intent(msgspec.Struct, frozen=True):
    """An order that the daemon had begun when it wrote this."""

    kind: Kind
    sandbox_id: str
    begun_at: datetime.datetime


def begin(connection: sqlite3.Connection, kind: Kind, sandbox_id: str) -> None:
    """Write down what is about to be done; it takes the place of an order that could not be settled.

    Two orders at once are refused before they come here (`daemon.exclusive`).
    """
    connection.execute(
        "INSERT INTO intents (kind, sandbox_id, begun_at) VALUES (?, ?, ?)"
        " ON CONFLICT (sandbox_id) DO UPDATE SET kind=excluded.kind, begun_at=excluded.begun_at",
        (kind.value, sandbox_id, now().isoformat()),
    )


def settle(connection: sqlite3.Connection, sandbox_id: str) -> None:
    """Strike the order of that sandbox out: it is done, or undone."""
    connection.execute("DELETE FROM intents WHERE sandbox_id=?", (sandbox_id,))


def unsettled(connection: sqlite3.Connection) -> list[Intent]:
    """Return the orders that were begun and not settled, the oldest first."""
    return [
        Intent(Kind(row["kind"]), row["sandbox_id"], datetime.datetime.fromisoformat(row["begun_at"]))
        for row in connection.execute("SELECT * FROM intents ORDER BY id")
    ]
