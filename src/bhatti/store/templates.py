"""Rows of the table `templates`: named sets of what sandboxes may be created with."""

import datetime
import sqlite3

import msgspec

from bhatti.errors import Conflict


class TemplateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A template as the store knows it. `outfit` is the document of what a sandbox is created with."""

    id: str
    owner: str
    name: str
    outfit: bytes
    created_at: datetime.datetime


def insert(connection: sqlite3.Connection, record: TemplateRecord) -> None:
    """Add a row. Raises `Conflict` (code `name-taken`) if its owner has one of that name."""
    try:
        connection.execute(
            "INSERT INTO templates (id, owner, name, outfit, created_at)"
            " VALUES (:id, :owner, :name, :outfit, :created_at)",
            _values(record),
        )
    except sqlite3.IntegrityError as err:
        raise _taken(record) from err


def update(connection: sqlite3.Connection, record: TemplateRecord) -> None:
    """Write the row anew; raises as `insert` does."""
    try:
        connection.execute("UPDATE templates SET name=:name, outfit=:outfit WHERE id=:id", _values(record))
    except sqlite3.IntegrityError as err:
        raise _taken(record) from err


def delete(connection: sqlite3.Connection, template_id: str) -> None:
    """Remove the row."""
    connection.execute("DELETE FROM templates WHERE id=?", (template_id,))


def delete_of(connection: sqlite3.Connection, owner: str) -> None:
    """Remove all that an owner has."""
    connection.execute("DELETE FROM templates WHERE owner=?", (owner,))


def of(connection: sqlite3.Connection, owner: str) -> list[TemplateRecord]:
    """Return the rows of an owner, by name."""
    return [
        TemplateRecord(
            id=row["id"],
            owner=row["owner"],
            name=row["name"],
            outfit=row["outfit"],
            created_at=datetime.datetime.fromisoformat(row["created_at"]),
        )
        for row in connection.execute("SELECT * FROM templates WHERE owner=? ORDER BY name", (owner,))
    ]


def _values(record: TemplateRecord) -> dict[str, str | bytes]:
    return msgspec.structs.asdict(record) | {"created_at": record.created_at.isoformat()}


def _taken(record: TemplateRecord) -> Conflict:
    return Conflict(
        f"template {record.name!r} already exists",
        hint=f"choose another name, or replace it: bhatti template create --replace {record.name} …",
        code="name-taken",
    )
