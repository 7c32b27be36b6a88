import datetime
import sqlite3

import msgspec
import pytest
from tests.unit.bhatti.store.rows import record

from bhatti.errors import Conflict, CorruptData
from bhatti.model.sandbox import Status
from bhatti.store import sandboxes
from bhatti.store.sandboxes import LastWords


def test_a_record_comes_back_as_it_was(connection: sqlite3.Connection) -> None:
    sandboxes.insert(connection, record())
    assert sandboxes.everyone(connection) == [record()]


def test_an_update_changes_all_but_the_id(connection: sqlite3.Connection) -> None:
    sandboxes.insert(connection, record())
    changed = msgspec.structs.replace(
        record(),
        status=Status.FAILED,
        cause=LastWords(kind="oom", detail="out of memory", console_tail="…"),
        stopped_at=sandboxes.now(),
    )
    sandboxes.update(connection, changed)
    assert sandboxes.everyone(connection) == [changed]


def test_a_name_is_taken_by_whoever_is_not_destroyed(connection: sqlite3.Connection) -> None:
    sandboxes.insert(connection, record("aa", "one", Status.FAILED))
    with pytest.raises(Conflict) as caught:
        sandboxes.insert(connection, record("bb", "one"))
    assert caught.value.code == "name-taken"


def test_a_destroyed_name_can_be_used_again(connection: sqlite3.Connection) -> None:
    sandboxes.insert(connection, record("aa", "one", Status.DESTROYED))
    sandboxes.insert(connection, record("bb", "one", Status.DESTROYED))
    sandboxes.insert(connection, record("cc", "one"))
    assert len(sandboxes.everyone(connection)) == 3


def test_rows_come_in_the_order_of_their_making(connection: sqlite3.Connection) -> None:
    late = msgspec.structs.replace(record("aa", "late"), created_at=sandboxes.now())
    sandboxes.insert(connection, late)
    sandboxes.insert(connection, record("bb", "early"))
    assert [found.name for found in sandboxes.everyone(connection)] == ["early", "late"]


def test_a_deleted_row_was_never_there(connection: sqlite3.Connection) -> None:
    sandboxes.insert(connection, record())
    sandboxes.delete(connection, record().id)
    assert sandboxes.everyone(connection) == []


def test_only_what_was_destroyed_long_ago_is_forgotten(connection: sqlite3.Connection) -> None:
    moment = sandboxes.now()
    for sandbox_id, days in (("aa", 10), ("bb", 1)):
        gone = record(sandbox_id, sandbox_id, Status.DESTROYED)
        when = moment - datetime.timedelta(days=days)
        sandboxes.insert(connection, msgspec.structs.replace(gone, destroyed_at=when))
    sandboxes.insert(connection, record("cc", "cc"))
    assert sandboxes.delete_destroyed_before(connection, moment - datetime.timedelta(days=7)) == 1
    assert [found.id for found in sandboxes.everyone(connection)] == ["bb", "cc"]


@pytest.mark.parametrize(("column", "value"), [("spec", b"{}"), ("status", "asleep"), ("created_at", "yesterday")])
def test_a_row_that_makes_no_sense_is_named(connection: sqlite3.Connection, column: str, value: object) -> None:
    sandboxes.insert(connection, record())
    connection.execute(f"UPDATE sandboxes SET {column}=?", (value,))
    with pytest.raises(CorruptData, match=record().id):
        sandboxes.everyone(connection)
