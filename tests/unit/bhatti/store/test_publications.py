import datetime
import sqlite3

import msgspec
import pytest
from tests.unit.bhatti.store.rows import record

from bhatti.errors import Conflict
from bhatti.model.sandbox import Status
from bhatti.store import publications, sandboxes
from bhatti.store.publications import PublicationRecord

PAGE = PublicationRecord(
    id="pub_1",
    sandbox_id="00000000000000aa",
    port=80,
    alias="one",
    created_at=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
)


@pytest.fixture
def store(connection: sqlite3.Connection) -> sqlite3.Connection:
    sandboxes.insert(connection, record())
    return connection


def test_a_row_comes_back_as_it_went(store: sqlite3.Connection) -> None:
    publications.insert(store, PAGE)
    assert publications.everything(store) == [PAGE]
    publications.delete(store, PAGE.id)
    assert publications.everything(store) == []


@pytest.mark.parametrize("changes", [{"port": 81}, {"alias": "two"}, {"sandbox_id": "gone", "port": 1, "alias": "x"}])
def test_names_ports_and_sandboxes_are_kept_apart(store: sqlite3.Connection, changes: dict[str, object]) -> None:
    publications.insert(store, PAGE)
    with pytest.raises(Conflict):
        publications.insert(store, msgspec.structs.replace(PAGE, id="pub_2", **changes))
    assert publications.everything(store) == [PAGE]


def test_they_go_with_their_sandbox(store: sqlite3.Connection) -> None:
    publications.insert(store, PAGE)
    publications.delete_of(store, "other")
    assert publications.everything(store) == [PAGE]
    sandboxes.update(store, record(status=Status.DESTROYED))
    assert publications.everything(store) == [], "one that is destroyed has nothing any more"
    publications.delete_of(store, PAGE.sandbox_id)
    assert store.execute("SELECT count(*) FROM publications").fetchone()[0] == 0
