"""What an agent does that is the init of a machine, where it may be tried: in a machine of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tests.agent.agents import RemoteAgent, wait_until

from lohar.wire.frames import FrameType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.agent.agents import Agent
    from tests.agent.client import Connection

HOG = "held = bytearray(1 << 28)"
"""Eats in one go: an interpreter that goes on running meanwhile has its own code thrown out and read again."""

PATIENCE_S = 240
"""Usually three seconds are enough on an emulated processor; after hundreds of commands, forty were seen."""

pytestmark = pytest.mark.timeout(300)

LIMIT = "/sys/fs/cgroup/bhatti/memory.max"
LIMIT_BYTES = 48 << 20


@pytest.fixture
def machine(agent: Agent) -> RemoteAgent:
    """An agent that is the init of a machine."""
    if not isinstance(agent, RemoteAgent):
        pytest.skip("would do to this host what only a machine of its own should suffer")
    return agent


@pytest.fixture
def scarce(machine: RemoteAgent) -> Iterator[RemoteAgent]:
    """A machine whose commands may use little memory. Without a limit, all of the machine's memory would have to be
    eaten: an emulated kernel without memory was seen to spend minutes on tidying it up.
    """

    def write(path: str, value: object) -> None:
        with machine.connect() as connection:
            assert connection.exec("sh", "-c", f"sync; echo {value} >{path}", user="root").code == 0

    # What earlier commands hold of the page cache would be taken from them bit by bit, and for as long as there is
    # some to take the kernel kills nobody.
    write("/proc/sys/vm/drop_caches", 3)
    write(LIMIT, LIMIT_BYTES)
    yield machine
    write(LIMIT, "max")


def test_a_command_that_eats_all_memory_is_killed_and_it_is_said(scarce: RemoteAgent, connection: Connection) -> None:
    before = scarce.facts()["oom_kills"]
    result = connection.exec("python3", "-c", HOG, exit_info=True, patience_s=PATIENCE_S)
    assert result.code == 137
    assert result.info["reason"] == "oom"
    assert result.info["oom"]["victim"] == "python3"
    assert result.info["oom"]["pid"] > 1
    assert result.info["oom"]["limit_bytes"] == LIMIT_BYTES
    # The agent and its connection are as they were.
    assert connection.exec("echo", "alive").stdout == b"alive\n"
    assert scarce.facts()["oom_kills"] > before


def test_a_grandchild_that_eats_all_memory_takes_its_command_along(scarce: RemoteAgent, connection: Connection) -> None:
    script = f"python3 -c '{HOG}' | cat; echo not reached; sleep 60"
    result = connection.exec("sh", "-c", script, exit_info=True, patience_s=PATIENCE_S)
    assert (result.code, result.info["reason"], result.info["oom"]["victim"]) == (137, "oom", "python3")
    assert b"not reached" not in result.stdout


def test_another_command_survives_the_want_of_memory(scarce: RemoteAgent, connection: Connection) -> None:
    with scarce.connect() as other:
        other.start("sh", "-c", "echo started; read line; echo got $line")
        other.read_until(b"started")
        assert connection.exec("python3", "-c", HOG, exit_info=True, patience_s=PATIENCE_S).info["reason"] == "oom"
        other.send(FrameType.STDIN, b"input\n")
        assert other.collect().stdout == b"got input\n"


def test_a_command_that_is_killed_otherwise_has_not_run_out_of_memory(machine: RemoteAgent) -> None:
    with machine.connect() as connection:
        result = connection.exec("sh", "-c", "kill -9 $$", exit_info=True)
        assert result.info == {"reason": "signalled", "signal": 9}


def test_the_agent_is_exempt_from_the_oom_killer_and_commands_are_not(machine: RemoteAgent) -> None:
    scores = machine.sh("cat /proc/1/oom_score_adj /proc/self/oom_score_adj").split()
    assert scores == ["-1000", "0"]


def test_every_command_has_a_control_group_of_its_own(machine: RemoteAgent, connection: Connection) -> None:
    with machine.connect() as other:
        other.start("sh", "-c", "cat /proc/self/cgroup; sleep 60")
        first = other.read_until(b"\n")
        second = connection.exec("cat", "/proc/self/cgroup").stdout
    assert re.fullmatch(rb"0::/bhatti/c\d+\n", first)
    assert re.fullmatch(rb"0::/bhatti/c\d+\n", second)
    assert first != second
    assert machine.sh("cat /proc/1/cgroup") == "0::/\n"


def test_groups_are_used_again(machine: RemoteAgent, connection: Connection) -> None:
    seen = {connection.exec("cat", "/proc/self/cgroup").stdout for _ in range(20)}
    assert len(seen) <= 3


def test_kill_reaches_what_has_left_the_session(machine: RemoteAgent, connection: Connection) -> None:
    with machine.connect() as other:
        other.start("sh", "-c", "setsid sleep 1000 & echo $!; wait")
        runaway = other.read_until(b"\n").decode().strip()
        other.send(FrameType.KILL)
        assert other.collect().code == 137
    wait_until(lambda: connection.exec("kill", "-0", runaway).code != 0, "the runaway is gone")


def test_commands_are_the_users_and_root_is_there_for_who_asks(machine: RemoteAgent, connection: Connection) -> None:
    user = connection.exec("id", "-un").stdout
    assert user != b"root\n"
    assert connection.exec("id", "-un", user="root").stdout == b"root\n"
    assert connection.exec("sh", "-c", "cd ~ && touch mine && stat -c %U mine && rm mine").stdout == user
    info = connection.open_session("sh", "-c", "id -un; stat -c %U $(tty)")
    assert info["running"] is True
    assert connection.read_to_exit()[0].split() == [user.strip(), user.strip()]


def test_uploaded_files_and_their_directories_are_the_users(machine: RemoteAgent, connection: Connection) -> None:
    connection.write_file(machine.path("new/deep/file"), b"x")
    owners = machine.sh(f"stat -c %U {machine.path('new')} {machine.path('new/deep')} {machine.path('new/deep/file')}")
    assert len(set(owners.split())) == 1
    assert owners.split()[0] == machine.sh("id -un").strip()


def test_the_agent_takes_little_of_the_machines_memory(machine: RemoteAgent) -> None:
    resident = machine.sh("awk '/^VmRSS/ {print $2}' /proc/1/status")
    # Of an agent that has served a whole suite of tests by now.
    assert int(resident) < 25 * 1024
