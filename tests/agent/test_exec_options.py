"""What revision 2 adds to commands: limits, accounts, reasons, detaching, a prompt EXIT."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from tests.agent.agents import process_exists, wait_until
from tests.agent.client import Closed
from tests.privileges import CAN_BECOME_OTHERS

from lohar.wire.frames import FrameType

if TYPE_CHECKING:
    from tests.agent.agents import Agent, LocalAgent
    from tests.agent.client import Connection


def test_the_reason_is_told_to_who_asks(connection: Connection) -> None:
    assert connection.exec("true", exit_info=True).info == {"reason": "exited"}


def test_a_command_over_its_time_is_killed(connection: Connection) -> None:
    result = connection.exec("sh", "-c", "echo begun; sleep 60", timeout_sec=0.2, exit_info=True)
    assert (result.code, result.stdout) == (137, b"begun\n")
    assert result.info == {"reason": "timeout", "signal": 9}


def test_a_command_within_its_time_is_left_alone(connection: Connection) -> None:
    assert connection.exec("true", timeout_sec=30, exit_info=True).info == {"reason": "exited"}


def test_the_reason_of_kill_is_told(connection: Connection) -> None:
    connection.start("sleep", "60", exit_info=True)
    connection.send(FrameType.KILL)
    result = connection.collect()
    assert (result.code, result.info) == (137, {"reason": "killed", "signal": 9})


def test_an_empty_frame_ends_the_input(connection: Connection) -> None:
    connection.start("cat")
    connection.send(FrameType.STDIN, b"some")
    connection.send(FrameType.STDIN)
    assert connection.collect().stdout == b"some"
    assert connection.exec("echo", "the connection lives on").code == 0


def test_without_stdin_the_command_reads_nothing(connection: Connection) -> None:
    result = connection.exec("sh", "-c", "cat; readlink /proc/self/fd/0", no_stdin=True)
    assert result.stdout == b"/dev/null\n"


def test_input_for_a_command_without_stdin_is_dropped(connection: Connection) -> None:
    assert connection.exec("cat", stdin=b"unwanted", no_stdin=True).stdout == b""


def test_exit_does_not_wait_for_a_background_child(connection: Connection) -> None:
    result = connection.exec("sh", "-c", "sleep 3600 & echo $!")
    assert result.code == 0
    os_pid = int(result.stdout)
    assert connection.exec("kill", "-0", str(os_pid)).code == 0  # it lives on
    assert connection.exec("kill", str(os_pid)).code == 0


def test_output_of_a_background_child_is_waited_for_as_long_as_it_comes(local: LocalAgent) -> None:
    # Local, and without a process between two lines: a slow machine may need longer for one than the agent waits.
    fifo = local.path("fifo")
    pause = "read -t 0.1 -u 9"
    script = f"mkfifo {fifo}; exec 9<>{fifo}; (for i in 1 2 3 4 5; do {pause}; echo $i; done; sleep 30) & exit 3"
    with local.connect() as connection:
        result = connection.exec("bash", "-c", script)
    assert (result.code, result.stdout) == (3, b"1\n2\n3\n4\n5\n")


def test_a_background_child_is_not_hurt_by_the_end_of_its_parent(agent: Agent, connection: Connection) -> None:
    path = agent.path("done")
    script = f"(sleep 0.5; echo late; echo late >&2; echo survived > {path}) & exit 0"
    assert connection.exec("sh", "-c", script).stdout == b""
    wait_until(lambda: agent.sh(f"cat {path} 2>/dev/null || true") == "survived\n", "the child has written")


def test_a_command_with_closed_streams_is_waited_for(connection: Connection) -> None:
    started = time.monotonic()
    assert connection.exec("sh", "-c", "exec >&- 2>&-; sleep 0.4; exit 5").code == 5
    assert time.monotonic() - started >= 0.4


def test_a_detached_command_outlives_its_client(agent: Agent) -> None:
    path = agent.path("log")
    with agent.connect() as connection:
        connection.start("sh", "-c", "echo out; echo err >&2; sleep 0.2; echo end", detach=True, output_file=path)
        answer = connection.expect_json(FrameType.STDOUT)
        assert connection.expect(FrameType.EXIT)[:4] == bytes(4)
    assert answer["output_file"] == path
    assert answer["pid"] > 1
    wait_until(lambda: agent.sh(f"cat {path}") == "out\nerr\nend\n", "the detached command has ended")


def test_a_detached_command_gets_a_file_of_its_own(agent: Agent, connection: Connection) -> None:
    result = connection.exec("echo", "hello", detach=True)
    answer = json.loads(result.stdout)
    assert answer["output_file"].startswith("/tmp/bhatti-detach-")
    wait_until(lambda: agent.sh(f"cat {answer['output_file']}") == "hello\n", "it has written")
    agent.sh(f"rm {answer['output_file']}")


def test_a_detached_command_that_cannot_start_leaves_no_file(agent: Agent, connection: Connection) -> None:
    before = agent.sh("ls /tmp | grep -c bhatti-detach || true")
    assert "not found" in connection.exec("no-such-program", detach=True).error
    assert "no such file" in connection.exec("true", detach=True, output_file="/no/such/dir/log").error
    assert agent.sh("ls /tmp | grep -c bhatti-detach || true") == before


def test_a_detached_command_has_its_time_limit(agent: Agent, connection: Connection) -> None:
    path = agent.path("log")
    result = connection.exec("sleep", "60", detach=True, output_file=path, timeout_sec=0.1)
    pid = json.loads(result.stdout)["pid"]
    wait_until(lambda: agent.sh(f"kill -0 {pid} 2>/dev/null || echo gone") == "gone\n", "the limit has ended it")


def need_others(agent: Agent) -> None:
    """Skip where this process, whose rights a local agent has, cannot act as somebody else."""
    if agent.local and not CAN_BECOME_OTHERS:
        pytest.skip("acts as another user, which needs root, and a / that others may enter")


def test_root_may_run_commands_as_somebody_else(agent: Agent, connection: Connection) -> None:
    need_others(agent)
    script = "id -un; id -gn; echo $HOME; touch /root/x 2>/dev/null || echo denied"
    result = connection.exec("sh", "-c", script, user="nobody")
    assert result.stdout.decode().splitlines() == ["nobody", "nogroup", "/nonexistent", "denied"]
    assert connection.exec("id", "-u", user="65534").stdout == b"65534\n"


def test_acting_as_somebody_else_leaves_no_trace_in_the_agent(local: LocalAgent) -> None:
    need_others(local)
    with local.connect() as connection:
        connection.hello()
        connection.exec("true", user="nobody")
        connection.exec("/nonexistent", user="nobody")
        connection.exec("pwd", user="nobody", cwd="/root")
        status = connection.exec("cat", f"/proc/{local.pid}/status").stdout.decode().splitlines()
        assert "Uid:\t0\t0\t0\t0" in status
        assert "Gid:\t0\t0\t0\t0" in status
        own = connection.exec("cat", "/proc/self/status").stdout.decode().splitlines()
        assert "Uid:\t0\t0\t0\t0" in own


def test_another_user_cannot_come_back_to_root(agent: Agent, connection: Connection) -> None:
    need_others(agent)
    script = "import os; print(os.getresuid(), os.getresgid(), 0 in os.getgroups()); os.setuid(0)"
    result = connection.exec("/usr/bin/python3", "-c", script, user="nobody")
    assert result.stdout.decode() == "(65534, 65534, 65534) (65534, 65534, 65534) False\n"
    assert b"PermissionError" in result.stderr


def test_a_directory_that_the_user_may_not_enter_is_an_error(agent: Agent, connection: Connection) -> None:
    need_others(agent)
    agent.sh(f"mkdir -p {agent.path('mine')}; chmod 700 {agent.path('mine')}")
    assert "permission denied" in connection.exec("pwd", user="nobody", cwd=agent.path("mine")).error


def test_an_unknown_user_is_an_error(connection: Connection) -> None:
    assert "not found" in connection.exec("true", user="no-such-user").error


def test_the_end_of_the_stream_may_mean_that_the_host_is_lost(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.start("sh", "-c", "echo $$; exec sleep 60", kill_on_eof=True)
        pid = int(connection.read_until(b"\n"))
        connection.sock.shutdown(1)
        with pytest.raises(Closed):
            connection.receive()
    wait_until(lambda: not process_exists(pid), "the command is gone")


def test_a_lost_host_ends_the_command_and_its_children(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.start("sh", "-c", "sleep 60 & echo $$ $!; wait")
        pids = [int(pid) for pid in connection.read_until(b"\n").split()]
    for pid in pids:
        wait_until(lambda pid=pid: not process_exists(pid), "the command is gone")  # type: ignore[misc]
    wait_until(lambda: not local.children(), "the agent has no child left")


def test_a_lost_host_is_noticed_while_its_input_is_not_read(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.start("sh", "-c", "echo $$; exec sleep 60")
        pid = int(connection.read_until(b"\n"))
        assert connection.send_until_full(FrameType.STDIN, b"x" * 65536, 64 << 20) < 64 << 20
    wait_until(lambda: not process_exists(pid), "the command is gone")


def test_a_lost_host_is_noticed_while_its_output_is_not_taken(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.start("sh", "-c", "echo $$; exec yes")
        pid = int(connection.read_until(b"\n").split(b"\n")[0])
    wait_until(lambda: not process_exists(pid), "the command is gone")
