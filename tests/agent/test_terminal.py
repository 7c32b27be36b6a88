"""Sessions on terminals, as any client of the reference protocol has them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.agent.agents import process_exists, wait_until
from tests.agent.client import Closed

from lohar.wire.frames import FrameType, parse_exit

if TYPE_CHECKING:
    from tests.agent.agents import Agent, LocalAgent
    from tests.agent.client import Connection


def kill(agent: Agent, identifier: str) -> None:
    with agent.connect() as connection:
        connection.send_json(FrameType.EXEC_KILL, session_id=identifier)
        assert parse_exit(connection.expect(FrameType.EXIT)) == (0, b"")


def test_a_shell_echoes_and_exits(agent: Agent) -> None:
    with agent.connect() as connection:
        info = connection.open_session("sh")
        assert info["running"] is True
        assert info["tty"] is True
        assert info["attached"] is True
        assert info["argv"] == "sh"
        connection.type("echo ma''rk\n")
        connection.read_until(b"mark\r\n")
        connection.type("exit\n")
        assert connection.read_to_exit()[1] == 0


def test_the_exit_code_of_a_shell_arrives(connection: Connection) -> None:
    connection.open_session("sh", "-c", "exit 9", exit_info=True)
    result = connection.collect()
    assert (result.code, result.info) == (9, {"reason": "exited"})


def test_the_terminal_has_the_size_that_was_asked_for(connection: Connection) -> None:
    connection.open_session("stty", "size", rows=33, cols=101)
    assert connection.read_to_exit()[0] == b"33 101\r\n"


def test_the_default_size_is_24_by_80(connection: Connection) -> None:
    connection.open_session("stty", "size")
    assert connection.read_to_exit()[0] == b"24 80\r\n"


def test_resizing_reaches_the_program(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.open_session("sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.02; done")
        connection.read_until(b"ready")
        connection.resize(40, 120)
        assert b"40 120" in connection.read_to_exit()[0]


def test_the_program_controls_its_terminal(connection: Connection) -> None:
    connection.open_session("sh", "-c", "tty; echo through >/dev/tty; test -t 0 && test -t 1 && test -t 2 && echo all")
    output = connection.read_to_exit()[0]
    assert output.startswith(b"/dev/pts/")
    assert b"through\r\n" in output
    assert b"all\r\n" in output


def test_control_c_interrupts_the_foreground(connection: Connection) -> None:
    connection.open_session("sh", "-c", "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.02; done")
    connection.read_until(b"ready")
    connection.type("\x03")
    output, code = connection.read_to_exit()
    assert b"caught" in output
    assert code == 3


def test_job_control_works(connection: Connection) -> None:
    connection.open_session("bash", "--norc", env={"PS1": "$ "})
    # As a person would, one thing after the other: what is typed while a shell sets its terminal up may be dropped.
    connection.read_until(b"$ ")
    connection.type("sh -c 'echo run''ning; exec cat'\n")
    connection.read_until(b"running\r\n")
    connection.type("hello\n")
    connection.read_until(b"hello\r\nhello\r\n")
    connection.type("\x1a")
    connection.read_until(b"Stopped")
    connection.type("echo ba''ck\n")
    connection.read_until(b"back\r\n")


def test_identifiers_count_up_and_a_failed_start_uses_one(agent: Agent) -> None:
    identifiers = []
    for _ in range(2):
        with agent.connect() as connection:
            identifiers.append(connection.open_session("sh")["session_id"])
    with agent.connect() as connection:
        connection.start("/nonexistent", tty=True)
        assert b"no such file" in connection.expect(FrameType.ERROR)
    with agent.connect() as connection:
        identifiers.append(connection.open_session("sh")["session_id"])
    numbers = [int(identifier.removeprefix("s")) for identifier in identifiers]
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 3]


def test_the_first_session_is_s1(local: LocalAgent) -> None:
    with local.connect() as connection:
        assert connection.open_session("sh")["session_id"] == "s1"


def test_a_session_survives_its_client_and_shows_what_was_said(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = connection.open_session("sh")["session_id"]
        connection.type("echo be''fore\n")
        connection.read_until(b"before\r\n")
    with agent.connect() as connection:
        info = connection.attach(identifier)
        assert info["session_id"] == identifier
        connection.read_until(b"before\r\n")
        connection.type("echo af''ter\n")
        connection.read_until(b"after\r\n")


def test_output_while_nobody_is_attached_is_kept(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = connection.open_session("sh", "-c", "read x; echo la''te; sleep 60")["session_id"]
        connection.type("\n")
    wait_until(lambda: agent.sessions()[identifier]["offset"] >= len("\r\nlate\r\n"), "it has spoken")
    with agent.connect() as connection:
        connection.attach(identifier)
        # The reference's way: all of it in one frame.
        assert b"late\r\n" in connection.expect(FrameType.STDOUT)


def test_the_scrollback_is_the_last_64_kib(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = connection.open_session("sh", "-c", "stty -opost; seq 1 30000; sleep 60")["session_id"]
        produced = connection.read_until(b"30000\n")
    with agent.connect() as connection:
        info = connection.attach(identifier)
        replay = connection.expect(FrameType.STDOUT)
    assert len(replay) == 65536
    assert replay == produced[-65536:]
    assert info["offset"] == len(produced)
    assert info["start"] == len(produced) - 65536


def test_sessions_are_listed(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = connection.open_session("sh", "-c", "sleep 60; echo x")["session_id"]
        listed = agent.sessions()[identifier]
        assert listed["argv"] == "sh -c sleep 60; echo x"
        assert listed["attached"] is True
        assert listed["running"] is True
        assert abs(listed["created_at"] - time.time()) < 3600
    wait_until(lambda: agent.sessions()[identifier]["attached"] is False, "it is detached")


def test_killing_a_session_ends_it_and_tells_its_client(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = connection.open_session("sh", "-c", "trap '' HUP TERM; sleep 60", exit_info=True)["session_id"]
        kill(agent, identifier)
        result = connection.collect()
        assert (result.code, result.info) == (137, {"reason": "killed", "signal": 9})
    assert identifier not in agent.sessions()


def test_an_unknown_session_is_not_found(connection: Connection) -> None:
    assert "session not found" in connection.ask_error(FrameType.EXEC_KILL, session_id="s999999")
    assert "session not found" in connection.ask_error(FrameType.EXEC_REQ, session_id="s999999")


def test_kill_asks_a_terminals_program_to_end(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.open_session(
            "sh", "-c", "trap 'echo bye; exit 143' TERM HUP; echo ready; while :; do sleep 0.02; done"
        )
        connection.read_until(b"ready")
        connection.send(FrameType.KILL)
        output, code = connection.read_to_exit()
    assert b"bye" in output
    assert code == 143


def test_kill_ends_an_idle_shell_at_once(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.open_session("bash", "--norc", env={"PS1": "$ "})
        connection.read_until(b"$ ")
        connection.send(FrameType.KILL)
        assert connection.read_to_exit()[1] == 129  # of the hangup, not of the SIGKILL that comes later


def test_kill_ends_also_what_does_not_listen(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = connection.open_session("sh", "-c", "trap '' HUP TERM; echo ready; while :; do sleep 0.05; done")[
            "session_id"
        ]
        connection.read_until(b"ready")
        connection.send(FrameType.KILL)
        assert connection.read_to_exit()[1] == 137
    assert identifier not in agent.sessions()


def test_after_kill_the_session_is_not_attached_for_ever(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = connection.open_session("sh", "-c", "trap '' HUP TERM; echo ready; sleep 60")["session_id"]
        connection.read_until(b"ready")
        connection.send(FrameType.KILL)
    wait_until(lambda: agent.sessions().get(identifier, {"attached": False})["attached"] is False, "it is detached")
    kill(agent, identifier)


def test_killing_a_session_reaches_jobs_with_groups_of_their_own(local: LocalAgent) -> None:
    with local.connect() as connection:
        identifier = connection.open_session("bash", "--norc", env={"PS1": "$ "})["session_id"]
        connection.type("sh -c 'trap \"\" HUP; echo pid $$; sleep 60; sleep 60' &\n")
        pid = int(connection.read_match(rb"pid (\d+)\r")[1])
        kill(local, identifier)
        connection.read_to_exit()
    wait_until(lambda: not process_exists(pid), "the job is gone")


def test_an_idle_session_is_killed(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = connection.open_session("sleep", "60", max_idle_sec=1)["session_id"]
    began = time.monotonic()
    wait_until(lambda: not agent.sessions()[identifier]["running"], "the idle timer has run out")
    assert time.monotonic() - began > 0.5
    listed = agent.sessions()[identifier]
    assert (listed["exit_code"], listed["reason"]) == (137, "timeout")


def test_an_attached_session_is_not_idle(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = connection.open_session("sleep", "60", max_idle_sec=1)["session_id"]
    with agent.connect() as connection:
        connection.attach(identifier)
        with pytest.raises(TimeoutError):
            connection.receive(patience_s=1.5)
        assert agent.sessions()[identifier]["running"] is True


def ended_alone(agent: Agent) -> str:
    """Return the id of a session that has ended when nobody was there."""
    gate = agent.path("gate")
    agent.sh(f"mkfifo {gate}")
    with agent.connect() as connection:
        identifier = connection.open_session("sh", "-c", f"read x <{gate}; echo last words; exit 4")["session_id"]
    wait_until(lambda: not agent.sessions()[identifier]["attached"], "it is alone")
    agent.sh(f"echo >{gate}; rm {gate}")
    wait_until(lambda: not agent.sessions()[identifier]["running"], "it has ended")
    return str(identifier)


def test_a_session_that_ended_alone_shows_its_end_to_who_comes_late(agent: Agent) -> None:
    identifier = ended_alone(agent)
    assert agent.sessions()[identifier]["exit_code"] == 4
    with agent.connect() as connection:
        assert connection.attach(identifier)["running"] is False
        output, code = connection.read_to_exit()
    assert output.endswith(b"last words\r\n")
    assert code == 4
    assert identifier not in agent.sessions()


def test_a_delivered_end_removes_the_session(agent: Agent) -> None:
    with agent.connect() as connection:
        identifier = connection.open_session("true")["session_id"]
        connection.read_to_exit()
    assert identifier not in agent.sessions()


def test_killing_a_session_that_has_ended_forgets_it(agent: Agent) -> None:
    identifier = ended_alone(agent)
    kill(agent, identifier)
    assert identifier not in agent.sessions()


def test_the_time_limit_counts_for_sessions_too(connection: Connection) -> None:
    connection.open_session("sleep", "60", timeout_sec=0.2, exit_info=True)
    result = connection.collect()
    assert (result.code, result.info["reason"]) == (137, "timeout")


def test_the_agent_waits_for_the_host_to_close_after_a_terminals_exit(local: LocalAgent) -> None:
    with local.connect() as connection:  # without HELLO: as a client of the reference protocol
        connection.open_session("true")
        connection.read_to_exit()
        with pytest.raises(TimeoutError):
            connection.receive(patience_s=0.3)
        connection.type("too late")
        connection.resize(1, 1)
        with pytest.raises(TimeoutError):
            connection.receive(patience_s=0.1)
        connection.sock.shutdown(1)
        with pytest.raises(Closed):
            connection.receive()


def test_many_sessions_at_once_keep_apart(agent: Agent) -> None:
    errors: list[str] = []

    def use(number: int) -> None:
        try:
            with agent.connect() as connection:
                identifier = connection.open_session("cat")["session_id"]
                connection.type(f"number {number}\n")
                connection.read_until(b"\r\n" + b"number %d\r\n" % number)
            with agent.connect() as connection:
                connection.attach(identifier)
                seen = connection.read_until(b"\r\n" + b"number %d\r\n" % number)
                assert seen == b"number %d\r\nnumber %d\r\n" % (number, number)
                connection.send(FrameType.STDIN, b"\x04")
                connection.read_to_exit()
        except (AssertionError, TimeoutError, Closed) as error:
            errors.append(f"{number}: {error!r}")

    threads = [threading.Thread(target=use, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_there_is_a_limit_to_running_sessions(local: LocalAgent) -> None:
    with local.connect() as connection:
        limit = connection.hello()["limits"]["sessions"]
    for _ in range(limit):
        with local.connect() as connection:
            connection.open_session("sleep", "60")
    with local.connect() as connection:
        connection.start("sleep", "60", tty=True)
        assert b"session limit exceeded" in connection.expect(FrameType.ERROR)


def test_typing_is_activity_and_resizing_a_dead_terminal_harmless(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.open_session("sh", "-c", "echo ready; exit")
        connection.resize(10, 10)
        connection.send(FrameType.RESIZE, b"\0")
        connection.read_to_exit()


def test_a_slow_client_slows_the_program_and_loses_nothing(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.open_session("sh", "-c", "stty -opost; seq 1 300000")
        local.facts()  # some turns of the loop go by
        output, code = connection.read_to_exit()
    assert code == 0
    assert output == b"".join(b"%d\n" % number for number in range(1, 300_001))
