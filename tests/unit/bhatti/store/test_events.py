import datetime
import sqlite3

import msgspec
import pytest
from tests.unit.bhatti.store.rows import record

from bhatti.store import events, sandboxes
from bhatti.store.events import Wanted


def kinds(found: list[events.Event]) -> list[str]:
    return [event.kind for event in found]


def test_the_latest_events_come_in_order(connection: sqlite3.Connection) -> None:
    for number in range(5):
        events.add(connection, "made", f"s{number}", f"number {number}")
    assert [event.sandbox_id for event in events.latest(connection, 3)] == ["s2", "s3", "s4"]
    assert events.latest(connection, 1)[0].detail == "number 4"


def test_an_event_keeps_the_name_and_owner_that_the_sandbox_had(connection: sqlite3.Connection) -> None:
    row = msgspec.structs.replace(record("aa", "one"), owner="ann")
    sandboxes.insert(connection, row)
    events.add(connection, "created", "aa")
    sandboxes.update(connection, msgspec.structs.replace(row, name="two"))
    events.add(connection, "renamed", "aa")
    sandboxes.delete(connection, "aa")
    assert [(event.sandbox, event.owner) for event in events.latest(connection)] == [("one", "ann"), ("two", "ann")]


def test_somebody_sees_what_they_want_and_nothing_else(connection: sqlite3.Connection) -> None:
    for name, owner in (("aa", "ann"), ("bb", "bob")):
        sandboxes.insert(connection, msgspec.structs.replace(record(name, f"of-{owner}"), owner=owner))
        events.add(connection, f"made-{name}", name)
    assert kinds(events.latest(connection, wanted=Wanted(owner="ann"))) == ["made-aa"]
    assert kinds(events.latest(connection, wanted=Wanted(sandbox="of-bob"))) == ["made-bb"]
    assert kinds(events.after(connection, 0, 10, Wanted(sandbox="bb"))) == ["made-bb"]
    assert kinds(events.latest(connection, wanted=Wanted(sandbox="bb", owner="ann"))) == []


def test_events_go_after_ninety_days(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT_ALWAYS", 2)
    present = sandboxes.now()
    for days, kind in ((92, "older"), (91, "old"), (89, "recent"), (0, "new")):
        moment = present - datetime.timedelta(days=days)
        monkeypatch.setattr(events, "now", lambda moment=moment: moment)
        events.add(connection, kind)
    assert kinds(events.latest(connection)) == ["recent", "new"]


def test_the_latest_events_stay_whatever_the_clock_says(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = sandboxes.now()
    for years, kind in ((0, "before"), (30, "in the future"), (0, "after")):
        monkeypatch.setattr(events, "now", lambda years=years: present + years * datetime.timedelta(days=365))
        events.add(connection, kind)
    assert kinds(events.latest(connection)) == ["before", "in the future", "after"]


def test_there_is_a_bound_to_how_many_are_kept(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT_ROWS", 3)
    for number in range(10):
        events.add(connection, str(number))
    assert kinds(events.latest(connection)) == ["7", "8", "9"]


def test_a_reader_goes_on_where_it_was(connection: sqlite3.Connection) -> None:
    for number in range(5):
        events.add(connection, str(number))
    first = events.batch(connection, 0, 3, 100)
    assert (kinds(first.events), first.cursor, first.full, first.skipped) == (["0", "1", "2"], 3, True, False)
    second = events.batch(connection, first.cursor, 3, 100)
    assert (kinds(second.events), second.cursor, second.full, second.skipped) == (["3", "4"], 5, False, False)
    assert events.batch(connection, second.cursor, 3, 100).events == []


def test_what_a_reader_does_not_want_moves_its_cursor_on(connection: sqlite3.Connection) -> None:
    for number in range(5):
        events.add(connection, str(number), "aa")
    batch = events.batch(connection, 0, 3, 100, Wanted(sandbox="bb"))
    assert (batch.events, batch.cursor, batch.skipped) == ([], 5, False)


def test_a_reader_that_is_too_far_behind_is_told_so(connection: sqlite3.Connection) -> None:
    for number in range(10):
        events.add(connection, str(number))
    batch = events.batch(connection, 2, 100, 4)
    assert batch.skipped
    assert kinds(batch.events) == ["6", "7", "8", "9"]


def test_a_reader_of_what_is_not_kept_any_more_is_told_so(connection: sqlite3.Connection) -> None:
    for number in range(10):
        events.add(connection, str(number))
    connection.execute("DELETE FROM events WHERE id <= 5")
    batch = events.batch(connection, 2, 100, 100)
    assert batch.skipped
    assert kinds(batch.events) == ["5", "6", "7", "8", "9"]
    connection.execute("DELETE FROM events")
    assert events.batch(connection, 2, 100, 100).skipped
    assert not events.batch(connection, 10, 100, 100).skipped


def test_a_cursor_of_the_future_begins_with_what_comes_next(connection: sqlite3.Connection) -> None:
    events.add(connection, "now")
    assert events.batch(connection, 1000, 10, 100).cursor == 1


def test_an_empty_table_has_a_span_of_nothing(connection: sqlite3.Connection) -> None:
    assert events.span(connection) == (1, 0)
