"""Rows of the table `volumes`, and the functions that read and write them inside a unit.

A row is its own journal: it is `creating` before anything is made and `removing` before anything goes.
"""

import datetime
import sqlite3

import msgspec

from bhatti.errors import Conflict
from bhatti.model.sandbox import VolumeStatus


class VolumeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as the store knows it."""

    name: str
    engine: str
    size_mib: int
    created_at: datetime.datetime
    status: VolumeStatus = VolumeStatus.CREATING
    owner: str = ""

    def __str__(self) -> str:
        """Say it as events do."""
        return f"{self.name}: {self.size_mib} MiB"


def insert(connection: sqlite3.Connection, record: VolumeRecord) -> None:
    """Add a row. Raises `Conflict` (code `volume-exists`) if there is one of that name."""
    try:
        connection.execute(
            "INSERT INTO volumes (name, owner, engine, size_mib, status, created_at)"
            " VALUES (:name, :owner, :engine, :size_mib, :status, :created_at)",
            _values(record),
        )
    except sqlite3.IntegrityError as err:
        raise Conflict(
            f"there is a volume {record.name!r} already",
            hint="choose another name, or use the one that is there",
            code="volume-exists",
        ) from err


def update(connection: sqlite3.Connection, record: VolumeRecord) -> None:
    """Write the row anew."""
    connection.execute(
        "UPDATE volumes SET engine=:engine, size_mib=:size_mib, status=:status, created_at=:created_at"
        " WHERE owner=:owner AND name=:name",
        _values(record),
    )


def delete(connection: sqlite3.Connection, record: VolumeRecord) -> None:
    """Remove the row."""
    connection.execute("DELETE FROM volumes WHERE owner=? AND name=?", (record.owner, record.name))


def everything(connection: sqlite3.Connection) -> list[VolumeRecord]:
    """Return all rows by name."""
    return [
        VolumeRecord(
            name=row["name"],
            owner=row["owner"],
            engine=row["engine"],
            size_mib=row["size_mib"],
            status=VolumeStatus(row["status"]),
            created_at=datetime.datetime.fromisoformat(row["created_at"]),
        )
        for row in connection.execute("SELECT * FROM volumes ORDER BY owner, name")
    ]


def _values(record: VolumeRecord) -> dict[str, str | int]:
    return {
        "name": record.name,
        "owner": record.owner,
        "engine": record.engine,
        "size_mib": record.size_mib,
        "status": record.status.value,
        "created_at": record.created_at.isoformat(),
    }
