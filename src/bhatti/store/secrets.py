"""Rows of the table `secrets`: sealed values by owner and name. What is in `sealed` is not for this package to open."""

import datetime
import sqlite3
from collections.abc import Callable

import msgspec


class SecretRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A secret as the store knows it."""

    owner: str
    name: str
    sealed: bytes
    created_at: datetime.datetime
    updated_at: datetime.datetime


def put(connection: sqlite3.Connection, record: SecretRecord) -> None:
    """Add the row, or give the one of that name another value; when it was made stays."""
    connection.execute(
        "INSERT INTO secrets (owner, name, sealed, created_at, updated_at)"
        " VALUES (:owner, :name, :sealed, :created_at, :updated_at)"
        " ON CONFLICT (owner, name) DO UPDATE SET sealed=excluded.sealed, updated_at=excluded.updated_at",
        {
            "owner": record.owner,
            "name": record.name,
            "sealed": record.sealed,
            "created_at": record.created_at.isoformat(),
            "updated_at": record.updated_at.isoformat(),
        },
    )


def delete(connection: sqlite3.Connection, owner: str, name: str) -> bool:
    """Remove the row; say whether there was one."""
    return connection.execute("DELETE FROM secrets WHERE owner=? AND name=?", (owner, name)).rowcount > 0


def delete_of(connection: sqlite3.Connection, owner: str) -> None:
    """Remove all that an owner has."""
    connection.execute("DELETE FROM secrets WHERE owner=?", (owner,))


def of(connection: sqlite3.Connection, owner: str) -> list[SecretRecord]:
    """Return the rows of an owner, by name."""
    rows = connection.execute("SELECT * FROM secrets WHERE owner=? ORDER BY name", (owner,))
    return [
        SecretRecord(
            owner=row["owner"],
            name=row["name"],
            sealed=row["sealed"],
            created_at=datetime.datetime.fromisoformat(row["created_at"]),
            updated_at=datetime.datetime.fromisoformat(row["updated_at"]),
        )
        for row in rows
    ]


def count(connection: sqlite3.Connection) -> int:
    """Return how many there are, of everybody."""
    return int(connection.execute("SELECT count(*) FROM secrets").fetchone()[0])


def reseal(connection: sqlite3.Connection, again: Callable[[str, bytes], bytes]) -> int:
    """Replace each sealed value by what `again` makes of it, given its name; return how many. All of them, or none."""
    rows = connection.execute("SELECT owner, name, sealed FROM secrets").fetchall()
    for owner, name, sealed in rows:
        connection.execute("UPDATE secrets SET sealed=? WHERE owner=? AND name=?", (again(name, sealed), owner, name))
    return len(rows)
