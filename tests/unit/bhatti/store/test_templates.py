import datetime
import sqlite3

import msgspec
import pytest

from bhatti.errors import Conflict
from bhatti.store import templates
from bhatti.store.templates import TemplateRecord

MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC)
AGENT = TemplateRecord(id="5d0c83e1a97f42b6", owner="", name="agent", outfit=b"{}", created_at=MOMENT)


def test_a_row_comes_back_as_it_went_changes_and_goes(connection: sqlite3.Connection) -> None:
    templates.insert(connection, AGENT)
    assert templates.of(connection, "") == [AGENT]
    changed = msgspec.structs.replace(AGENT, name="other", outfit=b'{"cpus": 2}')
    templates.update(connection, changed)
    assert templates.of(connection, "") == [changed]
    templates.delete(connection, AGENT.id)
    assert templates.of(connection, "") == []


def test_a_name_is_its_owners_once(connection: sqlite3.Connection) -> None:
    hers = msgspec.structs.replace(AGENT, id="1", owner="her")
    other = msgspec.structs.replace(AGENT, id="2", name="other")
    for record in (AGENT, hers, other):
        templates.insert(connection, record)
    for change in (templates.insert, templates.update):
        with pytest.raises(Conflict) as caught:
            change(connection, msgspec.structs.replace(other, name="agent"))
        assert caught.value.code == "name-taken"
    templates.delete_of(connection, "her")
    assert (templates.of(connection, "her"), templates.of(connection, "")) == ([], [AGENT, other])
