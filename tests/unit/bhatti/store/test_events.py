import sqlite3

import pytest

from bhatti.store import events


def test_the_latest_events_come_in_order(connection: sqlite3.Connection) -> None:
    for number in range(5):
        events.add(connection, "made", f"s{number}", f"number {number}")
    assert [event.sandbox_id for event in events.latest(connection, 3)] == ["s2", "s3", "s4"]
    assert events.latest(connection, 1)[0].detail == "number 4"


def test_old_events_go_as_new_ones_come(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT", 3)
    for number in range(10):
        events.add(connection, str(number))
    assert [event.kind for event in events.latest(connection)] == ["7", "8", "9"]
