"""What the agent knows of its machine, and what it is told to become."""

from __future__ import annotations

import base64
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.agent.agents import wait_until

from lohar import __version__
from lohar.wire.frames import FrameType
from lohar.wire.messages import FEATURES

if TYPE_CHECKING:
    from tests.agent.agents import Agent, LocalAgent
    from tests.agent.client import Connection

ENTROPY = base64.b64encode(bytes(range(32))).decode()


def activity(agent: Agent) -> dict[str, Any]:
    with agent.connect() as connection:
        connection.send(FrameType.ACTIVITY_REQ)
        return dict(connection.expect_json(FrameType.ACTIVITY_RESP))


def wait_for_the_next_second(agent: Agent) -> int:
    """Return the agent's clock in seconds just after it has advanced."""
    before = int(agent.sh("date +%s"))
    wait_until(lambda: int(agent.sh("sleep 0.05; date +%s")) > before + 1, "the clock advances")
    return before + 1


# --- what it knows


def test_hello_says_who_is_there(connection: Connection) -> None:
    hello = connection.hello()
    assert hello["agent"] == f"lohar/{__version__}"
    assert hello["features"] == list(FEATURES)
    assert len(hello["boot_id"]) == 36
    assert hello["limits"]["frame_length"] == 1 << 20


def test_hello_needs_no_words(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.send(FrameType.HELLO_REQ)
        assert connection.expect_json(FrameType.HELLO_RESP)["revision"] == 2


def test_activity_counts_sessions(agent: Agent) -> None:
    assert activity(agent)["active_sessions"] == 0
    with agent.connect() as one, agent.connect() as two:
        one.open_session("cat")
        two.open_session("cat")
        two.close()
        wait_until(lambda: activity(agent)["attached_sessions"] == 1, "the second is detached")
        assert activity(agent)["active_sessions"] == 2


def test_commands_and_files_are_activity_and_asking_is_not(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.hello()
        moment = wait_for_the_next_second(agent)
        connection.write_file(agent.path("file"), b"x")
        used = activity(agent)["last_activity_unix"]
        assert used >= moment
        deadline = time.monotonic() + 1.3
        while time.monotonic() < deadline:
            connection.ask(FrameType.FILE_STAT_REQ, FrameType.FILE_STAT_RESP, path="/")
            connection.list_files(agent.directory)
            connection.send(FrameType.EXEC_LIST_REQ)
            connection.expect(FrameType.EXEC_LIST_RESP)
            assert activity(agent)["last_activity_unix"] == used
        for use in (
            lambda: connection.exec("true"),
            lambda: connection.read_file(agent.path("file")),
        ):
            use()
            assert activity(agent)["last_activity_unix"] > used


def test_typing_is_activity(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.open_session("cat")
        used = activity(agent)["last_activity_unix"]

        def typed() -> bool:
            connection.type("x")
            return bool(activity(agent)["last_activity_unix"] > used)

        wait_until(typed, "typing is seen as activity")


def test_facts_tell_what_runs_and_what_it_uses(agent: Agent) -> None:
    with agent.connect() as busy, agent.connect() as session:
        session.open_session("cat")
        busy.start("sh", "-c", "echo started; while :; do :; done")
        busy.read_until(b"started")

        def cpu_ms() -> int:
            return int({fact["name"]: fact["cpu_ms"] for fact in agent.facts()["processes"]}["sh"])

        first = cpu_ms()
        wait_until(lambda: cpu_ms() > first, "the loop uses CPU")
        facts = agent.facts()
    names = {fact["name"]: fact for fact in facts["processes"]}
    assert names["cat"]["session_id"].startswith("s")
    assert "session_id" not in names["sh"]
    assert facts["attached_sessions"] == facts["active_sessions"] == 1
    assert facts["cpu_ms"] > 0
    assert len(facts["load"]) == 3
    assert 0 < facts["memory_available"] <= facts["memory_total"]
    assert 0 < facts["disk_free"] <= facts["disk_total"]
    assert facts["uptime_ms"] > 0
    assert facts["oom_kills"] >= 0


def test_facts_count_the_time_of_children(agent: Agent) -> None:
    with agent.connect() as busy:
        busy.start("sh", "-c", "echo started; sh -c 'while :; do :; done'; true")
        busy.read_until(b"started")
        wait_until(lambda: sum(fact["cpu_ms"] for fact in agent.facts()["processes"]) >= 50, "the child's time counts")


def test_nothing_runs_when_nothing_runs(local: LocalAgent) -> None:
    facts = local.facts()
    assert (facts["processes"], facts["active_sessions"], facts["forwards"]) == ([], 0, 0)


def test_sync_answers_when_all_is_written(agent: Agent, connection: Connection) -> None:
    connection.write_file(agent.path("file"), bytes(1 << 20))
    connection.send(FrameType.SYNC_REQ)
    assert connection.receive(60)[0] == FrameType.SYNC_RESP


# --- what it becomes: here only what does not change the machine it runs on


def identity(connection: Connection, generation: int, **message: object) -> dict[str, Any]:
    return dict(
        connection.ask(
            FrameType.IDENTITY_REQ,
            FrameType.IDENTITY_RESP,
            generation=generation,
            clock_ns=time.time_ns(),
            entropy=ENTROPY,
            **message,
        )
    )


def test_an_identity_is_in_place_before_the_answer(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.hello()
        answer = identity(connection, 1, sandbox_id="sb-1", env={"FORKED": "yes"})
        assert answer == {"generation": 1, "applied": True}
        assert connection.exec("sh", "-c", "echo $FORKED").stdout == b"yes\n"
        hello = connection.hello()
        assert (hello["sandbox_id"], hello["generation"]) == ("sb-1", 1)
        assert local.facts()["generation"] == 1


def test_an_identity_that_was_applied_is_acknowledged_and_changes_nothing(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.hello()
        identity(connection, 7, env={"A": "first"})
        assert identity(connection, 7, env={"A": "second"}) == {"generation": 7, "applied": False}
        assert connection.exec("sh", "-c", "echo $A").stdout == b"first\n"
        assert identity(connection, 8, env={"A": "third"}) == {"generation": 8, "applied": True}
        assert connection.exec("sh", "-c", "echo $A").stdout == b"third\n"


def test_an_identity_starts_the_init_session(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.hello()
        identity(connection, 1, init="echo from-init; sleep 60")
    with local.connect() as connection:
        info = connection.attach("init")
        assert info["argv"] == "sh -c echo from-init; sleep 60"
        connection.read_until(b"from-init\r\n")


@pytest.mark.parametrize(
    "message",
    [{"env": {"A=B": "x"}}, {"dns": ["a b"]}, {"files": {"relative": {"content": ""}}}, {"entropy": "c2hvcnQ="}],
)
def test_an_impossible_identity_is_refused_as_a_whole(local: LocalAgent, message: dict[str, object]) -> None:
    with local.connect() as connection:
        connection.hello()
        request = {"generation": 1, "clock_ns": 1, "entropy": ENTROPY, "sandbox_id": "sb-1", **message}
        error = connection.ask_error(FrameType.IDENTITY_REQ, **request)
        assert next(iter(message)) in error
        assert connection.hello()["generation"] == 0


def test_resumed_closes_the_other_connections(local: LocalAgent) -> None:
    with local.connect() as asking, local.connect() as idle, local.connect() as busy, local.connect() as session:
        asking.hello()
        idle.hello()
        busy.start("sh", "-c", "echo $$; sleep 60")
        pid = int(busy.read_until(b"\n"))
        identifier = session.open_session("cat")["session_id"]
        answer = asking.ask(
            FrameType.RESUMED_REQ, FrameType.RESUMED_RESP, clock_ns=time.time_ns(), entropy=ENTROPY, generation=3
        )
        assert answer["closed_connections"] == 3
        for closed in (idle, busy, session):
            closed.expect_closed()
        assert asking.exec("true").code == 0
        # A session survives what its connection does not.
        assert local.sessions()[identifier]["running"] is True
        wait_until(lambda: asking.exec("kill", "-0", str(pid)).code != 0, "the lost command is gone")


def test_a_guest_that_was_only_paused_keeps_its_connections(local: LocalAgent) -> None:
    with local.connect() as asking, local.connect() as busy:
        asking.hello()
        busy.start("sh", "-c", "echo ready; read line; echo got $line")
        assert busy.read_until(b"\n") == b"ready\n"
        answer = asking.ask(
            FrameType.RESUMED_REQ,
            FrameType.RESUMED_RESP,
            clock_ns=time.time_ns(),
            entropy=ENTROPY,
            generation=3,
            keep_connections=True,
        )
        assert answer["closed_connections"] == 0
        busy.send(FrameType.STDIN, b"it\n")
        assert busy.read_until(b"\n") == b"got it\n"


def test_the_clock_of_this_machine_is_left_alone(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.hello()
        connection.ask(FrameType.RESUMED_REQ, FrameType.RESUMED_RESP, clock_ns=1, entropy=ENTROPY)
        identity_then = time.time()
        identity(connection, 1, hostname="changed", address="10.0.0.1/24", mac="02:00:00:00:00:01")
        assert connection.exec("hostname").stdout.decode().strip() == os.uname().nodename
    assert abs(time.time() - identity_then) < 60
