import sqlite3

import pytest
from tests.unit.bhatti.store.rows import record

from bhatti.store import intents, sandboxes
from bhatti.store.intents import Kind


@pytest.fixture(autouse=True)
def rows(connection: sqlite3.Connection) -> None:
    for sandbox_id in ("aa", "bb"):
        sandboxes.insert(connection, record(sandbox_id, sandbox_id))


def test_an_order_is_there_until_it_is_settled(connection: sqlite3.Connection) -> None:
    intents.begin(connection, Kind.CREATE, "aa")
    intents.begin(connection, Kind.DESTROY, "bb")
    assert [(found.kind, found.sandbox_id) for found in intents.unsettled(connection)] == [
        ("create", "aa"),
        ("destroy", "bb"),
    ]
    intents.settle(connection, "aa")
    assert [found.sandbox_id for found in intents.unsettled(connection)] == ["bb"]


def test_a_new_order_takes_the_place_of_one_that_could_not_be_settled(connection: sqlite3.Connection) -> None:
    intents.begin(connection, Kind.CREATE, "aa")
    intents.begin(connection, Kind.DESTROY, "aa")
    assert [found.kind for found in intents.unsettled(connection)] == [Kind.DESTROY]


def test_the_order_goes_with_the_row(connection: sqlite3.Connection) -> None:
    intents.begin(connection, Kind.CREATE, "aa")
    sandboxes.delete(connection, "aa")
    assert intents.unsettled(connection) == []


def test_an_order_about_nobody_is_refused(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        intents.begin(connection, Kind.CREATE, "zz")
