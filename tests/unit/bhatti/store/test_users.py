import datetime
import sqlite3

import msgspec
import pytest

from bhatti.errors import Conflict
from bhatti.model.user import Caps
from bhatti.store import users
from bhatti.store.users import UserRecord

WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC)
ANNA = UserRecord(id="usr_1", name="anna", key_hash="aa", created_at=WHEN, caps=Caps(max_cpus=None, max_images=0))
BERT = UserRecord(id="usr_2", name="bert", key_hash="bb", created_at=WHEN)


def test_what_is_written_is_read_by_name(connection: sqlite3.Connection) -> None:
    users.insert(connection, BERT)
    users.insert(connection, ANNA)
    assert users.everyone(connection) == [ANNA, BERT]


def test_a_row_is_written_anew_and_removed(connection: sqlite3.Connection) -> None:
    users.insert(connection, ANNA)
    changed = msgspec.structs.replace(ANNA, name="anne", key_hash="cc", caps=Caps(max_snapshots=1))
    users.update(connection, changed)
    assert users.everyone(connection) == [changed]
    users.delete(connection, ANNA.id)
    assert users.everyone(connection) == []


def test_names_are_unique(connection: sqlite3.Connection) -> None:
    users.insert(connection, ANNA)
    users.insert(connection, BERT)
    with pytest.raises(Conflict) as caught:
        users.insert(connection, msgspec.structs.replace(ANNA, id="usr_3", key_hash="cc"))
    assert caught.value.code == "name-taken"
    with pytest.raises(Conflict):
        users.update(connection, msgspec.structs.replace(BERT, name="anna"))
    assert users.everyone(connection) == [ANNA, BERT]
