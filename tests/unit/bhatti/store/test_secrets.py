import datetime
import sqlite3

import msgspec
import pytest

from bhatti.store import secrets
from bhatti.store.secrets import SecretRecord

MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC)
TOKEN = SecretRecord(owner="", name="token", sealed=b"\x00sealed", created_at=MOMENT, updated_at=MOMENT)


def test_a_row_comes_back_as_it_went_changes_and_goes(connection: sqlite3.Connection) -> None:
    secrets.put(connection, TOKEN)
    assert secrets.of(connection, "") == [TOKEN]
    later = MOMENT + datetime.timedelta(hours=1)
    secrets.put(connection, msgspec.structs.replace(TOKEN, sealed=b"other", created_at=later, updated_at=later))
    assert secrets.of(connection, "") == [msgspec.structs.replace(TOKEN, sealed=b"other", updated_at=later)]
    assert secrets.delete(connection, "", "token")
    assert not secrets.delete(connection, "", "token")
    assert secrets.of(connection, "") == []


def test_two_owners_have_the_same_name_and_each_their_own_value(connection: sqlite3.Connection) -> None:
    hers = msgspec.structs.replace(TOKEN, owner="her", sealed=b"hers")
    for record in (TOKEN, hers):
        secrets.put(connection, record)
    assert secrets.of(connection, "her") == [hers]
    assert secrets.count(connection) == 2
    secrets.delete_of(connection, "her")
    assert (secrets.of(connection, "her"), secrets.of(connection, "")) == ([], [TOKEN])


def test_all_are_sealed_again_whoever_they_belong_to(connection: sqlite3.Connection) -> None:
    for record in (TOKEN, msgspec.structs.replace(TOKEN, owner="her", name="b")):
        secrets.put(connection, record)
    assert secrets.reseal(connection, lambda name, sealed: name.encode() + sealed) == 2
    assert [row.sealed for owner in ("", "her") for row in secrets.of(connection, owner)] == [
        b"token\x00sealed",
        b"b\x00sealed",
    ]


def test_a_value_that_cannot_be_opened_stops_it(connection: sqlite3.Connection) -> None:
    secrets.put(connection, TOKEN)

    def again(name: str, sealed: bytes) -> bytes:
        raise KeyError(name)

    with pytest.raises(KeyError):
        secrets.reseal(connection, again)
    assert secrets.of(connection, "") == [TOKEN]
