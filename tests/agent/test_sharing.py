"""Cursors, takeover, watching along, and sessions on pipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.agent.agents import wait_until
from tests.agent.client import Closed

from lohar.wire.frames import FrameType

if TYPE_CHECKING:
    from tests.agent.agents import Agent
    from tests.agent.client import Connection

COUNTER = "stty -echo -opost; echo ready; while read n; do seq 1 $n; done"
"""Says as many numbers as it is told to, and nothing else after `ready`."""


def start_counter(connection: Connection, **options: object) -> str:
    identifier = str(connection.open_session("sh", "-c", COUNTER, **options)["session_id"])
    connection.read_until(b"ready\n")
    return identifier


def count(connection: Connection, number: int) -> bytes:
    connection.type(f"{number}\n")
    return connection.read_until(b"\n%d\n" % number)


def test_a_cursor_continues_where_the_client_left(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = start_counter(connection)
        seen = len(b"ready\n") + len(count(connection, 100))
        connection.type("200\n")
    wait_until(lambda: agent.sessions()[identifier]["offset"] >= seen + 692, "it has counted")
    with agent.connect() as connection:
        info = connection.attach(identifier, since=seen)
        assert info["gap"] == 0
        assert info["offset"] == seen + 692
        assert connection.read_until(b"\n200\n").startswith(b"1\n2\n")


def test_a_gap_is_declared(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = start_counter(connection, ring_bytes=1000)
        seen = len(b"ready\n") + len(count(connection, 1000))
        connection.type("5000\n")
    total = seen + sum(len(str(number)) + 1 for number in range(1, 5001))
    wait_until(lambda: agent.sessions()[identifier]["offset"] == total, "it has counted")
    with agent.connect() as connection:
        info = connection.attach(identifier, since=seen)
        replay = connection.read_until(b"\n5000\n")
    assert info["start"] == total - 1000
    assert info["gap"] == info["start"] - seen
    assert len(replay) == 1000
    everything = b"".join(b"%d\n" % number for number in range(1, 5001))
    assert replay == everything[-1000:]


def test_a_cursor_beyond_the_end_is_the_end(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = start_counter(connection)
    with agent.connect() as connection:
        assert connection.attach(identifier, since=1 << 40)["gap"] == 0
        assert count(connection, 10).startswith(b"1\n")


def test_without_cursor_everything_kept_is_replayed(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = start_counter(connection)
        said = count(connection, 10)
    with agent.connect() as connection:
        info = connection.attach(identifier)
        assert "gap" not in info
        assert connection.read_until(b"\n10\n") == b"ready\n" + said


def test_a_new_client_takes_over(agent: Agent) -> None:
    with agent.connect() as first, agent.connect() as second:
        identifier = start_counter(first, exit_info=True)
        second.attach(identifier)
        result = first.collect()
        assert (result.code, result.info) == (0, {"reason": "taken-over"})
        second.read_until(b"ready\n")
        count(second, 3)


def test_the_old_client_can_neither_type_nor_detach(agent: Agent) -> None:
    first = agent.connect()
    with agent.connect() as second:
        identifier = start_counter(first)
        second.attach(identifier)
        second.read_until(b"ready\n")
        first.collect()
        first.type("5\n")
        first.send(FrameType.KILL)
        first.close()
        assert count(second, 3) == b"1\n2\n3\n"
        assert agent.sessions()[identifier]["attached"] is True


@pytest.mark.parametrize("option", [{"takeover": False}, {"if_detached": True}])
def test_a_polite_client_does_not_take_over(agent: Agent, option: dict[str, bool]) -> None:
    with agent.connect() as first, agent.connect() as second:
        identifier = start_counter(first)
        second.send_json(FrameType.EXEC_REQ, session_id=identifier, **option)
        assert b"session is attached" in second.expect(FrameType.ERROR)
        count(first, 3)
    wait_until(lambda: not agent.sessions()[identifier]["attached"], "the first has left")
    with agent.connect() as third:
        assert third.attach(identifier, **option)["attached"] is True


def test_watchers_see_what_the_holder_sees(agent: Agent) -> None:
    with agent.connect() as holder, agent.connect() as one, agent.connect() as two:
        identifier = start_counter(holder)
        for watcher in (one, two):
            assert watcher.attach(identifier, read_only=True)["attached"] is True
            watcher.read_until(b"ready\n")
        said = count(holder, 500)
        for watcher in (one, two):
            assert watcher.read_until(b"\n500\n") == said
        assert agent.sessions()[identifier]["watchers"] == 2
        holder.send(FrameType.STDIN, b"\x04")
        for client in (holder, one, two):
            assert client.read_to_exit()[1] == 0


def test_a_watcher_cannot_type_or_kill(agent: Agent) -> None:
    with agent.connect() as holder, agent.connect() as watcher:
        identifier = start_counter(holder)
        watcher.attach(identifier, read_only=True)
        watcher.type("5\n")
        watcher.send(FrameType.KILL)
        watcher.resize(1, 1)
        assert count(holder, 3) == b"1\n2\n3\n"


def test_a_watcher_does_not_take_over(agent: Agent) -> None:
    with agent.connect() as holder, agent.connect() as watcher:
        identifier = start_counter(holder)
        watcher.attach(identifier, read_only=True, takeover=True)
        count(holder, 3)
    wait_until(lambda: not agent.sessions()[identifier]["attached"], "the holder has left")


def test_a_watcher_alone_keeps_a_session_from_being_idle_but_does_not_hold_it(agent: Agent) -> None:
    with agent.connect() as holder:
        identifier = start_counter(holder, max_idle_sec=1)
    with agent.connect() as watcher:
        assert watcher.attach(identifier, read_only=True)["attached"] is False
        watcher.read_until(b"ready\n")
        with pytest.raises(TimeoutError):
            watcher.receive(patience_s=1.5)
        assert agent.sessions()[identifier]["running"] is True


def test_the_end_that_only_watchers_saw_is_kept_for_who_comes_late(agent: Agent) -> None:
    with agent.connect() as holder:
        identifier = start_counter(holder)
        with agent.connect() as watcher:
            watcher.attach(identifier, read_only=True)
            watcher.read_until(b"ready\n")
            holder.send(FrameType.STDIN, b"\x04")
            holder.close()
            assert watcher.read_to_exit()[1] == 0


def test_a_slow_watcher_is_let_go_and_holds_nobody_up(agent: Agent) -> None:
    with agent.connect() as holder, agent.connect() as watcher:
        identifier = start_counter(holder)
        watcher.attach(identifier, read_only=True)
        watcher.read_until(b"ready\n")
        for _ in range(5):
            count(holder, 100_000)
        with pytest.raises(Closed):
            watcher.read_while(lambda _: True)
        assert agent.sessions()[identifier].get("watchers", 0) == 0
        assert count(holder, 3) == b"1\n2\n3\n"


def test_a_piped_session_keeps_its_streams_apart(agent: Agent) -> None:
    script = "echo out1; echo err1 >&2; read line; echo got $line; echo err2 >&2; exit 6"
    with agent.connect() as connection:
        info = connection.open_session("sh", "-c", script, session=True)
        assert info["tty"] is False
        identifier = info["session_id"]
        first = b""
        while len(first) < len(b"out1\nerr1\n"):
            first += connection.receive()[1]
    with agent.connect() as connection:
        connection.attach(identifier)
        connection.send(FrameType.STDIN, b"input\n")
        result = connection.collect()
    assert result.stdout == b"out1\ngot input\n"
    assert result.stderr == b"err1\nerr2\n"
    assert result.code == 6


def test_a_piped_sessions_input_can_be_ended(connection: Connection) -> None:
    connection.open_session("cat", session=True)
    connection.send(FrameType.STDIN, b"text")
    connection.send(FrameType.STDIN)
    result = connection.collect()
    assert (result.code, result.stdout) == (0, b"text")


def test_a_piped_session_survives_its_client(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = connection.open_session("sh", "-c", "sleep 0.3; echo end", session=True)["session_id"]
    wait_until(lambda: not agent.sessions()[identifier]["running"], "it has ended")
    with agent.connect() as connection:
        connection.attach(identifier)
        assert connection.collect().stdout == b"end\n"


def test_kill_ends_a_piped_session_for_good(connection: Connection) -> None:
    connection.open_session("sh", "-c", "trap '' TERM HUP; sleep 60", session=True, exit_info=True)
    connection.send(FrameType.KILL)
    result = connection.collect()
    assert (result.code, result.info["reason"]) == (137, "killed")


def test_a_piped_session_does_not_wait_for_background_children(connection: Connection) -> None:
    connection.open_session("sh", "-c", "sleep 30 & echo $!", session=True)
    result = connection.collect()
    assert result.code == 0
    assert connection.exec("kill", result.stdout.decode().strip()).code == 0


def test_a_piped_session_changing_streams_all_the_time_stays_bounded(agent: Agent) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo o; echo e >&2; i=$((i+1)); done; exit 0"
    with agent.connect() as connection:
        connection.open_session("sh", "-c", script, session=True)
        result = connection.collect()
    assert (result.stdout, result.stderr) == (b"o\n" * 3000, b"e\n" * 3000)


def test_a_ring_can_be_larger_but_not_at_will(connection: Connection) -> None:
    connection.start("true", tty=True, ring_bytes=1 << 30)
    assert b"ring_bytes" in connection.expect(FrameType.ERROR)


def test_a_tiny_ring_loses_nothing_for_an_attached_client(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.open_session("sh", "-c", "seq 1 500", session=True, ring_bytes=1)
        result = connection.collect()
    assert result.stdout == b"".join(b"%d\n" % number for number in range(1, 501))
