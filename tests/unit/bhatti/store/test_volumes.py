import datetime
import sqlite3

import msgspec
import pytest

from bhatti.errors import Conflict
from bhatti.model.sandbox import VolumeStatus
from bhatti.store import volumes
from bhatti.store.volumes import VolumeRecord

DATA = VolumeRecord(
    name="data", engine="local", size_mib=64, created_at=datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC)
)


def test_a_row_comes_back_as_it_went_and_goes(connection: sqlite3.Connection) -> None:
    volumes.insert(connection, DATA)
    assert volumes.everything(connection) == [DATA]
    ready = msgspec.structs.replace(DATA, status=VolumeStatus.READY, size_mib=128)
    volumes.update(connection, ready)
    assert volumes.everything(connection) == [ready]
    volumes.delete(connection, ready)
    assert volumes.everything(connection) == []


def test_a_name_is_its_owners_once(connection: sqlite3.Connection) -> None:
    volumes.insert(connection, DATA)
    volumes.insert(connection, msgspec.structs.replace(DATA, owner="somebody"))
    with pytest.raises(Conflict) as caught:
        volumes.insert(connection, DATA)
    assert caught.value.code == "volume-exists"
    volumes.delete(connection, DATA)
    assert [row.owner for row in volumes.everything(connection)] == ["somebody"]
