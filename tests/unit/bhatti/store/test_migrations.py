import sqlite3
from collections.abc import Iterator

import pytest

from bhatti.errors import CorruptData
from bhatti.store.migrations import MIGRATIONS, migrate


@pytest.fixture
def empty() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_all_steps_are_taken_once(empty: sqlite3.Connection) -> None:
    assert migrate(empty) == len(MIGRATIONS)
    assert version(empty) == len(MIGRATIONS)
    assert migrate(empty) == 0


@pytest.mark.parametrize("before", range(len(MIGRATIONS) + 1))
def test_every_earlier_schema_can_be_brought_up_to_date(empty: sqlite3.Connection, before: int) -> None:
    migrate(empty, MIGRATIONS[:before])
    assert migrate(empty) == len(MIGRATIONS) - before
    tables = {row[0] for row in empty.execute("SELECT name FROM sqlite_schema WHERE type='table'")}
    assert {"sandboxes", "intents", "events", "users"} <= tables


def test_what_was_there_before_there_were_users_is_the_administrator_s() -> None:
    before = sqlite3.connect(":memory:", isolation_level=None)
    migrate(before, MIGRATIONS[:1])
    before.execute(
        "INSERT INTO sandboxes (id, name, status, engine, spec, facts, created_at)"
        " VALUES ('a', 'one', 'running', 'local', x'', x'', '2026-01-01')"
    )
    migrate(before)
    assert before.execute("SELECT owner FROM sandboxes").fetchall() == [("",)]
    before.close()


def test_a_step_that_fails_leaves_the_schema_before_it(empty: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError):
        migrate(empty, ("CREATE TABLE a (x);", "CREATE TABLE b (x); CREATE TABLE a (x);"))
    empty.execute("ROLLBACK")
    assert version(empty) == 1
    assert empty.execute("SELECT count(*) FROM sqlite_schema WHERE name='b'").fetchone()[0] == 0


def test_a_schema_of_the_future_is_refused(empty: sqlite3.Connection) -> None:
    empty.execute("PRAGMA user_version=99")
    with pytest.raises(CorruptData) as caught:
        migrate(empty)
    assert caught.value.code == "store-too-new"
