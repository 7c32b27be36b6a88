"""Rows of the table `sandboxes`, and the functions that read and write them inside a unit."""

import datetime
import sqlite3

import msgspec

from bhatti.errors import Conflict, CorruptData
from bhatti.model.origin import NOWHERE, Origin
from bhatti.model.preferences import Preferences
from bhatti.model.sandbox import SandboxSpec, Status


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine said about the machine when it was last asked."""

    address: str | None = None
    accelerator: str = ""
    how: str = ""
    why: str = ""
    timings_ms: dict[str, float] = {}


class LastWords(msgspec.Struct, frozen=True, kw_only=True):
    """Why the machine is not running any more."""

    kind: str
    detail: str
    console_tail: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox as the store knows it. A destroyed one keeps its name and cause, but no secrets and no files."""

    id: str
    name: str
    status: Status
    engine: str
    spec: SandboxSpec
    created_at: datetime.datetime
    owner: str = ""
    preferences: Preferences = Preferences()
    origin: Origin = NOWHERE
    facts: Facts = Facts()
    cause: LastWords | None = None
    stopped_at: datetime.datetime | None = None
    destroyed_at: datetime.datetime | None = None


def now() -> datetime.datetime:
    """Return the present, as rows hold it: UTC, to the microsecond."""
    return datetime.datetime.now(datetime.UTC)


def new(spec: SandboxSpec, *, owner: str, engine: str, preferences: Preferences, origin: Origin = NOWHERE) -> Record:
    """Return the record of a sandbox that is about to be made."""
    return Record(
        id=spec.id,
        name=spec.name,
        owner=owner,
        status=Status.CREATING,
        engine=engine,
        spec=spec,
        preferences=preferences,
        origin=origin,
        created_at=now(),
    )


def insert(connection: sqlite3.Connection, record: Record) -> None:
    """Add a row. Raises `Conflict` (code `name-taken`) if a sandbox that is not destroyed has the name."""
    try:
        connection.execute(
            "INSERT INTO sandboxes (id, name, owner, status, engine, spec, preferences, origin, facts, cause,"
            " created_at, stopped_at, destroyed_at) VALUES (:id, :name, :owner, :status, :engine, :spec, :preferences,"
            " :origin, :facts, :cause, :created_at, :stopped_at, :destroyed_at)",
            _values(record),
        )
    except sqlite3.IntegrityError as err:
        raise Conflict(
            f"sandbox {record.name!r} already exists",
            hint=f"choose another name, or remove it with `bhatti rm {record.name}`",
            code="name-taken",
        ) from err


def update(connection: sqlite3.Connection, record: Record) -> None:
    """Write the row of `record.id` anew."""
    connection.execute(
        "UPDATE sandboxes SET name=:name, owner=:owner, status=:status, engine=:engine, spec=:spec,"
        " preferences=:preferences, origin=:origin, facts=:facts, cause=:cause, created_at=:created_at,"
        " stopped_at=:stopped_at, destroyed_at=:destroyed_at WHERE id=:id",
        _values(record),
    )


def delete(connection: sqlite3.Connection, sandbox_id: str) -> None:
    """Remove the row, as if it had never been."""
    connection.execute("DELETE FROM sandboxes WHERE id=?", (sandbox_id,))


def delete_destroyed_before(connection: sqlite3.Connection, moment: datetime.datetime) -> int:
    """Forget the sandboxes destroyed before `moment`; return how many."""
    cursor = connection.execute(
        "DELETE FROM sandboxes WHERE status='destroyed' AND destroyed_at < ?", (moment.isoformat(),)
    )
    return cursor.rowcount


def everyone(connection: sqlite3.Connection) -> list[Record]:
    """Return all rows, the oldest first. Raises `CorruptData` for a row that cannot be understood."""
    return [_record(row) for row in connection.execute("SELECT * FROM sandboxes ORDER BY created_at, id")]


def _values(record: Record) -> dict[str, str | bytes | None]:
    return {
        "id": record.id,
        "name": record.name,
        "owner": record.owner,
        "status": record.status.value,
        "engine": record.engine,
        "spec": msgspec.json.encode(record.spec),
        "preferences": msgspec.json.encode(record.preferences),
        "origin": msgspec.json.encode(record.origin),
        "facts": msgspec.json.encode(record.facts),
        "cause": None if record.cause is None else msgspec.json.encode(record.cause),
        "created_at": record.created_at.isoformat(),
        "stopped_at": None if record.stopped_at is None else record.stopped_at.isoformat(),
        "destroyed_at": None if record.destroyed_at is None else record.destroyed_at.isoformat(),
    }


def _record(row: sqlite3.Row) -> Record:
    try:
        return Record(
            id=row["id"],
            name=row["name"],
            owner=row["owner"],
            status=Status(row["status"]),
            engine=row["engine"],
            spec=msgspec.json.decode(row["spec"], type=SandboxSpec),
            preferences=msgspec.json.decode(row["preferences"], type=Preferences),
            origin=msgspec.json.decode(row["origin"], type=Origin),
            facts=msgspec.json.decode(row["facts"], type=Facts),
            cause=None if row["cause"] is None else msgspec.json.decode(row["cause"], type=LastWords),
            created_at=datetime.datetime.fromisoformat(row["created_at"]),
            stopped_at=_moment(row["stopped_at"]),
            destroyed_at=_moment(row["destroyed_at"]),
        )
    except (ValueError, msgspec.MsgspecError) as err:
        raise CorruptData(
            f"the row of sandbox {row['id']!r} cannot be read: {err}",
            hint="restore a backup of the store",
            code="store-corrupt",
        ) from err


def _moment(text: str | None) -> datetime.datetime | None:
    return None if text is None else datetime.datetime.fromisoformat(text)
