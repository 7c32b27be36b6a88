"""Piped commands, as any client of the reference protocol runs them."""

from __future__ import annotations

import re
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from tests.agent.agents import wait_until

from lohar.wire.frames import FrameType, parse_exit

if TYPE_CHECKING:
    from tests.agent.agents import Agent, LocalAgent
    from tests.agent.client import Connection


def test_a_command_says_hello(agent: Agent) -> None:
    with agent.connect() as connection:
        result = connection.exec("echo", "hello")
    assert (result.code, result.stdout, result.stderr) == (0, b"hello\n", b"")


def test_a_failing_command_returns_its_code(agent: Agent) -> None:
    with agent.connect() as connection:
        assert connection.exec("false").code == 1


@pytest.mark.parametrize("code", [0, 1, 2, 42, 126, 127, 255])
def test_every_exit_code_arrives(connection: Connection, code: int) -> None:
    assert connection.exec("sh", "-c", f"exit {code}").code == code


def test_a_missing_path_is_an_error(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.start("/nonexistent")
        assert b"no such file" in connection.expect(FrameType.ERROR)


def test_a_missing_name_is_an_error(connection: Connection) -> None:
    assert "executable file not found" in connection.exec("no-such-program").error


def test_a_directory_cannot_be_executed(connection: Connection) -> None:
    assert "permission denied" in connection.exec("/usr").error


def test_a_file_without_permission_cannot_be_executed(agent: Agent, connection: Connection) -> None:
    path = agent.path("plain")
    agent.sh(f"echo echo hi > {path}; chmod 644 {path}")
    assert "permission denied" in connection.exec(path).error
    assert "permission denied" in connection.exec("plain", env={"PATH": agent.directory}).error


def test_a_script_with_a_missing_interpreter_is_an_error(agent: Agent, connection: Connection) -> None:
    path = agent.path("script")
    agent.sh(f"printf '#!/no/such/interpreter\\n' > {path}; chmod 755 {path}")
    assert "no such file" in connection.exec(path).error


def test_a_missing_working_directory_is_an_error(connection: Connection) -> None:
    assert "no such file" in connection.exec("pwd", cwd="/no/such/directory").error


def test_a_file_as_working_directory_is_an_error(connection: Connection) -> None:
    assert "not a directory" in connection.exec("pwd", cwd="/etc/passwd").error


@pytest.mark.parametrize("argv", [[], None])
def test_an_empty_argv_is_refused(agent: Agent, argv: list[str] | None) -> None:
    with agent.connect() as connection:
        assert "empty argv" in connection.ask_error(FrameType.EXEC_REQ, argv=argv)


def test_an_empty_name_is_refused(connection: Connection) -> None:
    assert "not found" in connection.exec("").error


def test_stderr_is_kept_apart(connection: Connection) -> None:
    result = connection.exec("sh", "-c", "echo problem >&2")
    assert (result.stdout, result.stderr) == (b"", b"problem\n")


def test_both_streams_arrive_completely(connection: Connection) -> None:
    result = connection.exec("sh", "-c", "echo out1; echo err1 >&2; echo out2; echo err2 >&2")
    assert (result.stdout, result.stderr) == (b"out1\nout2\n", b"err1\nerr2\n")


def test_the_request_sets_variables(connection: Connection) -> None:
    result = connection.exec("sh", "-c", "echo $GREETING-$OTHER", env={"GREETING": "hello", "OTHER": "ä b=c"})
    assert result.stdout.decode() == "hello-ä b=c\n"


def test_a_variable_with_an_impossible_name_is_refused(connection: Connection) -> None:
    assert "env" in connection.exec("true", env={"A=B": "c"}).error
    assert "env" in connection.exec("true", env={"": "c"}).error


def test_the_default_environment_is_the_reference_one(local: LocalAgent) -> None:
    with local.connect() as connection:
        lines = dict(line.split("=", 1) for line in connection.exec("env").stdout.decode().splitlines())
    assert lines == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TERM": "xterm-256color",
        "HOME": "/root",
        "LANG": "en_US.UTF-8",
    }


def test_the_environment_has_what_every_program_needs(connection: Connection) -> None:
    script = (
        'case $PATH in /usr/local/sbin*) ;; *) exit 1;; esac; test -n "$HOME" && test -n "$TERM" && test -n "$LANG"'
    )
    assert connection.exec("sh", "-c", script).code == 0


def test_the_working_directory_is_set(connection: Connection) -> None:
    assert connection.exec("pwd", cwd="/tmp").stdout == b"/tmp\n"


def test_the_working_directory_of_one_command_is_not_that_of_the_next(connection: Connection) -> None:
    before = connection.exec("pwd").stdout
    connection.exec("pwd", cwd="/usr")
    connection.exec("/nonexistent", cwd="/usr")
    assert connection.exec("pwd").stdout == before


def test_the_command_is_looked_up_in_the_path_of_the_request(agent: Agent, connection: Connection) -> None:
    agent.sh(f"cd {agent.directory}; mkdir -p one two; printf '#!/bin/sh\\necho two' > two/greet; chmod 755 two/greet")
    path = f"{agent.path('one')}:{agent.path('two')}"
    assert connection.exec("greet", env={"PATH": path}).stdout == b"two\n"
    assert "not found" in connection.exec("true", env={"PATH": path}).error


def test_a_relative_command_starts_from_the_working_directory(agent: Agent, connection: Connection) -> None:
    agent.sh(f"cd {agent.directory}; printf '#!/bin/sh\\necho here' > run; chmod 755 run")
    assert connection.exec("./run", cwd=agent.directory).stdout == b"here\n"
    assert connection.exec("run", cwd=agent.directory, env={"PATH": "/bin::"}).stdout == b"here\n"


def test_large_output_arrives_completely(connection: Connection) -> None:
    result = connection.exec("head", "-c", "1048576", "/dev/zero")
    assert result.stdout == bytes(1048576)


def test_output_in_many_small_writes_arrives_in_order(connection: Connection) -> None:
    result = connection.exec("seq", "1", "20000")
    assert result.stdout == b"".join(b"%d\n" % n for n in range(1, 20001))


def test_arguments_arrive_as_they_are(connection: Connection) -> None:
    arguments = ["", "a b", "ä€😀", "new\nline", "'quotes\"", "x" * 10000]
    result = connection.exec("printf", "%s\\0", *arguments)
    assert result.stdout.decode().split("\0")[:-1] == arguments


def test_input_is_passed_on(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.start("head", "-n2")
        connection.send(FrameType.STDIN, b"one\n")
        connection.send(FrameType.STDIN, b"two\n")
        result = connection.collect()
    assert (result.code, result.stdout) == (0, b"one\ntwo\n")


def test_half_closing_ends_the_input_and_output_still_flows(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.start("sh", "-c", "cat; sleep 0.1; echo end")
        connection.send(FrameType.STDIN, b"data\n")
        connection.sock.shutdown(socket.SHUT_WR)
        result = connection.collect()
    assert (result.code, result.stdout) == (0, b"data\nend\n")


def test_input_may_come_right_behind_the_request(connection: Connection) -> None:
    assert connection.exec("cat", stdin=b"x" * 100_000).stdout == b"x" * 100_000


def test_kill_ends_the_command(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.start("sh", "-c", "echo started; sleep 60")
        connection.read_until(b"started")
        connection.send(FrameType.KILL)
        assert connection.collect().code == 137


def test_kill_ends_grandchildren_too(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.start("sh", "-c", "sleep 60 & echo $!; wait")
        grandchild = int(connection.read_until(b"\n"))
        connection.send(FrameType.KILL)
        assert connection.collect().code == 137
    wait_until(lambda: agent.sh(f"kill -0 {grandchild} 2>/dev/null || echo gone") == "gone\n", "the grandchild is gone")


def test_kill_reaches_a_shells_jobs_with_groups_of_their_own(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.start("bash", "-c", "set -m; sleep 60 & echo $!; wait")
        job = int(connection.read_until(b"\n"))
        connection.send(FrameType.KILL)
        assert connection.collect().code == 137
    wait_until(lambda: agent.sh(f"kill -0 {job} 2>/dev/null || echo gone") == "gone\n", "the job is gone")


def test_five_commands_at_once(agent: Agent) -> None:
    results: dict[int, bytes] = {}

    def run(number: int) -> None:
        with agent.connect() as connection:
            results[number] = connection.exec("sh", "-c", f"sleep 0.1; echo {number}").stdout

    threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: b"%d\n" % number for number in range(5)}


def test_the_agent_serves_on_after_a_client_has_left(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.start("sleep", "60")
    with agent.connect() as connection:
        assert connection.exec("echo", "still here").stdout == b"still here\n"


def test_the_command_has_a_session_and_group_of_its_own(connection: Connection) -> None:
    fields = connection.exec("cat", "/proc/self/stat").stdout.decode().rsplit(")", 1)[1].split()
    pid = connection.exec("sh", "-c", "echo $$; exec cat /proc/self/stat").stdout.decode().split()
    group, session = pid[5], pid[6]
    assert group == session == pid[0]
    assert fields[2] == fields[3]


def test_the_command_inherits_no_descriptor(connection: Connection) -> None:
    listing = connection.exec("ls", "/proc/self/fd").stdout.split()
    assert listing == [b"0", b"1", b"2", b"3"]  # the last is that of the listing itself


def test_the_command_starts_with_ordinary_signals(connection: Connection) -> None:
    status = connection.exec("cat", "/proc/self/status").stdout.decode()
    for name in ("SigBlk", "SigIgn"):
        match = re.search(rf"^{name}:\t([0-9a-f]+)$", status, re.MULTILINE)
        assert match is not None
        assert int(match[1], 16) & 0x7FFFFFFF == 0, name  # 32 and 33 belong to the C library


def test_a_signal_that_ends_the_command_is_its_code(connection: Connection) -> None:
    result = connection.exec("sh", "-c", "kill -TERM $$", exit_info=True)
    assert result.code == 143
    assert result.info == {"reason": "signalled", "signal": 15}


def test_exit_has_nothing_but_the_code_unless_asked(connection: Connection) -> None:
    connection.start("true", no_stdin=True)
    payload = connection.expect(FrameType.EXIT)
    assert len(payload) == 4
    assert parse_exit(payload) == (0, b"")


def test_a_command_that_reads_slowly_gets_all_of_its_input(connection: Connection) -> None:
    data = b"0123456789abcdef" * 65536  # 1 MiB, sixteen pipes full
    result = connection.exec("sh", "-c", "sleep 0.3; wc -c", stdin=data)
    assert result.code == 0
    assert int(result.stdout) == len(data)


def test_a_command_that_does_not_read_holds_nobody_up(connection: Connection) -> None:
    assert connection.exec("true", stdin=b"x" * 300_000).code == 0
    assert connection.exec("echo", "next").stdout == b"next\n"
