import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from bhatti.errors import BhattiError, CorruptData, OutOfSpace, Unavailable
from bhatti.store import database as module
from bhatti.store import migrations
from bhatti.store.database import Database, translated

pytestmark = pytest.mark.anyio


def add_event(connection: sqlite3.Connection) -> int:
    cursor = connection.execute("INSERT INTO events (at, kind) VALUES ('now', 'test')")
    return cursor.lastrowid or 0


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])


async def test_what_is_written_can_be_read(database: Database) -> None:
    assert await database.write(add_event) == 1
    assert await database.read(count) == 1


async def test_a_unit_that_raises_leaves_nothing(database: Database) -> None:
    def unit(connection: sqlite3.Connection) -> None:
        add_event(connection)
        raise KeyError("changed my mind")

    with pytest.raises(KeyError):
        await database.write(unit)
    assert await database.read(count) == 0
    await database.write(add_event)  # and the writer goes on
    assert await database.read(count) == 1


async def test_neither_reading_nor_writing_happens_on_the_loop(database: Database) -> None:
    names = {
        await database.write(lambda connection: threading.current_thread().name),
        await database.read(lambda connection: threading.current_thread().name),
    }
    assert names == {"bhatti-store-write_0", "bhatti-store-read_0"}


async def test_the_reader_cannot_write(database: Database) -> None:
    with pytest.raises(Unavailable, match="readonly"):
        await database.read(add_event)


async def test_a_reader_sees_the_last_commit_while_a_unit_is_open(database: Database) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        add_event(connection)
        entered.set()
        leave.wait(60)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(database.write, slow)
        await anyio.to_thread.run_sync(entered.wait)
        assert await database.read(count) == 0
        leave.set()
    assert await database.read(count) == 1


async def test_a_unit_is_carried_out_although_its_caller_was_cancelled(database: Database) -> None:
    release = threading.Event()
    first = asyncio.get_running_loop().create_task(database.write(lambda connection: release.wait(60)))
    second = asyncio.get_running_loop().create_task(database.write(add_event))
    await anyio.lowlevel.checkpoint()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    await first
    assert await database.write(count) == 1


async def test_the_file_is_for_its_owner_alone(database: Database) -> None:
    assert database.path.stat().st_mode & 0o777 == 0o600


async def test_a_new_file_is_told_from_an_old_one(tmp_path: Path) -> None:
    for expected in (True, False):
        database = await Database.open(tmp_path / "state.db")
        assert database.created is expected
        await database.aclose()


async def test_opening_that_is_cancelled_leaves_no_thread_at_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave, left = threading.Event(), threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        entered.set()
        leave.wait(60)
        migrate(connection)
        left.set()

    migrate = migrations.migrate
    monkeypatch.setattr(module, "migrate", slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Database.open, tmp_path / "state.db")
        await anyio.to_thread.run_sync(entered.wait)
        tasks.cancel_scope.cancel()
        asyncio.get_running_loop().call_soon(leave.set)
    assert left.is_set()


async def test_a_closed_database_says_so_and_can_be_closed_again(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "state.db")
    await database.aclose()
    await database.aclose()
    with pytest.raises(RuntimeError):
        await database.read(count)


async def test_an_unopened_database_is_unavailable(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.db")
    with pytest.raises(Unavailable) as caught:
        await database.write(count)
    assert caught.value.code == "store-closed"
    await database.aclose()


async def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(CorruptData) as caught:
        await Database.open(path)
    assert caught.value.code == "store-corrupt"
    assert path.read_bytes().startswith(b"this is no database")


async def test_a_database_with_a_page_overwritten_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    database = await Database.open(path)
    await database.aclose()
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xa5" * 4096
    path.write_bytes(content)
    with pytest.raises(CorruptData):
        await Database.open(path)


async def test_a_directory_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        await Database.open(tmp_path / "absent" / "state.db")
    assert caught.value.code == "store-unavailable"
    assert caught.value.hint is not None


async def test_a_store_that_somebody_locks_is_unavailable(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.01)
    other = await Database.open(tmp_path / "state.db")
    thief = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    thief.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(Unavailable, match="locked"):
            await other.write(add_event)
    finally:
        thief.close()
        await other.aclose()


def raised_by(statement: str, *, pages: int = 0) -> BhattiError:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE TABLE t (x)")
        if pages:
            connection.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(BhattiError) as caught, translated(Path("/srv/state.db")):
            connection.execute(statement)
        return caught.value
    finally:
        connection.close()


def test_a_full_disk_is_told_as_such() -> None:
    error = raised_by("INSERT INTO t VALUES (zeroblob(1000000))", pages=3)
    assert isinstance(error, OutOfSpace)
    assert "/srv" in (error.hint or "")


def test_a_constraint_is_left_to_the_caller_to_explain() -> None:
    with pytest.raises(sqlite3.IntegrityError), translated(Path("x")):
        raise sqlite3.IntegrityError("UNIQUE")


async def test_what_was_found_damaged_is_written_no_more(database: Database) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    before = database.damaged
    database.check_sound()
    with pytest.raises(CorruptData, match="malformed"):
        await database.read(broken)
    assert (before, database.damaged) == (False, True)
    with pytest.raises(CorruptData, match="malformed") as caught:
        await database.write(add_event)
    assert (caught.value.code, "put a backup in its place" in (caught.value.hint or "")) == ("store-corrupt", True)
    assert await database.read(count) == 0


def test_all_of_a_store_can_be_examined(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 100)
        connection.commit()
    module.examined(path)
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xa5" * (len(content) - 8192))
    with pytest.raises(CorruptData):
        module.examined(path)
