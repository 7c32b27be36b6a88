"""Rows of the table `publications`, and the functions that read and write them inside a unit."""

import datetime
import sqlite3

import msgspec

from bhatti.errors import Conflict


class PublicationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A published port as the store knows it. Whose it is, its sandbox says."""

    id: str
    sandbox_id: str
    port: int
    alias: str
    created_at: datetime.datetime


def insert(connection: sqlite3.Connection, record: PublicationRecord) -> None:
    """Add a row. Raises `Conflict` (code `alias-taken`) if alias or port are published, or the sandbox is gone."""
    try:
        connection.execute(
            "INSERT INTO publications (id, sandbox_id, port, alias, created_at)"
            " VALUES (:id, :sandbox_id, :port, :alias, :created_at)",
            msgspec.structs.asdict(record) | {"created_at": record.created_at.isoformat()},
        )
    except sqlite3.IntegrityError as err:
        raise Conflict(
            f"{record.alias!r} cannot be published now", hint="give another alias", code="alias-taken"
        ) from err


def delete(connection: sqlite3.Connection, publication_id: str) -> None:
    """Remove a row."""
    connection.execute("DELETE FROM publications WHERE id=?", (publication_id,))


def delete_of(connection: sqlite3.Connection, sandbox_id: str) -> None:
    """Remove the rows of a sandbox."""
    connection.execute("DELETE FROM publications WHERE sandbox_id=?", (sandbox_id,))


def everything(connection: sqlite3.Connection) -> list[PublicationRecord]:
    """Return all rows of sandboxes that are there, the oldest first."""
    return [
        PublicationRecord(
            id=row["id"],
            sandbox_id=row["sandbox_id"],
            port=row["port"],
            alias=row["alias"],
            created_at=datetime.datetime.fromisoformat(row["created_at"]),
        )
        for row in connection.execute(
            "SELECT publications.* FROM publications JOIN sandboxes ON sandboxes.id = sandbox_id"
            " WHERE sandboxes.status <> 'destroyed' ORDER BY publications.created_at, publications.id"
        )
    ]
