"""Rows of the table `users`: who may call, by what key, and what they may have."""

import contextlib
import datetime
import sqlite3
from collections.abc import Iterator

import msgspec

from bhatti.errors import Conflict
from bhatti.model.user import Caps

COLUMNS = ("id", "name", "key_hash", "created_at", *Caps.__struct_fields__)


class UserRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A user as the store knows them. `key_hash` is the SHA-256 of the key as text, in hex; the key is nowhere."""

    id: str
    name: str
    key_hash: str
    created_at: datetime.datetime
    caps: Caps = Caps()


def insert(connection: sqlite3.Connection, user: UserRecord) -> None:
    """Add a row. Raises `Conflict` (code `name-taken`) if there is a user of that name."""
    marks = ", ".join(f":{column}" for column in COLUMNS)
    with _names_unique(user):
        connection.execute(f"INSERT INTO users ({', '.join(COLUMNS)}) VALUES ({marks})", _values(user))


def update(connection: sqlite3.Connection, user: UserRecord) -> None:
    """Write the row of `user.id` anew; raises as `insert` does."""
    changes = ", ".join(f"{column}=:{column}" for column in COLUMNS[1:])
    with _names_unique(user):
        connection.execute(f"UPDATE users SET {changes} WHERE id=:id", _values(user))


def delete(connection: sqlite3.Connection, user_id: str) -> None:
    """Remove the row."""
    connection.execute("DELETE FROM users WHERE id=?", (user_id,))


def everyone(connection: sqlite3.Connection) -> list[UserRecord]:
    """Return all rows, by name."""
    return [
        UserRecord(
            id=row["id"],
            name=row["name"],
            key_hash=row["key_hash"],
            created_at=datetime.datetime.fromisoformat(row["created_at"]),
            caps=Caps(**{name: row[name] for name in Caps.__struct_fields__}),
        )
        for row in connection.execute("SELECT * FROM users ORDER BY name")
    ]


def _values(user: UserRecord) -> dict[str, str | int | None]:
    values: dict[str, str | int | None] = {
        "id": user.id,
        "name": user.name,
        "key_hash": user.key_hash,
        "created_at": user.created_at.isoformat(),
    }
    return values | msgspec.structs.asdict(user.caps)


@contextlib.contextmanager
def _names_unique(user: UserRecord) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as err:
        raise name_taken(user.name) from err


def name_taken(name: str) -> Conflict:
    """Return the error of a name that another user has."""
    return Conflict(
        f"user {name!r} already exists",
        hint="choose another name; `bhatti user ls` shows those that are taken",
        code="name-taken",
    )
