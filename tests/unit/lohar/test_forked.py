import os
import signal

import pytest

from lohar.forked import fork_on_terminal
from lohar.processes import processes
from lohar.reaper import exit_code


def test_the_program_runs_on_the_terminal_in_a_session_of_its_own() -> None:
    master, slave = os.openpty()
    name = os.ttyname(slave)
    script = "echo here > /dev/tty; tty; kill -PIPE $$"
    pid = fork_on_terminal("/bin/sh", ["sh", "-c", script], {"PATH": "/usr/bin:/bin"}, slave, [signal.SIGPIPE])
    os.close(slave)
    assert exit_code(os.waitpid(pid, 0)[1]) == 128 + signal.SIGPIPE, "its default disposition is back"
    assert os.read(master, 1000).decode().split() == ["here", name]
    os.close(master)


def children() -> list[int]:
    return [stat.pid for stat in processes() if stat.parent == os.getpid()]


def test_what_cannot_be_executed_raises_here_and_leaves_no_child() -> None:
    master, slave = os.openpty()
    before = children()
    with pytest.raises(FileNotFoundError):
        fork_on_terminal("/nonexistent", ["x"], {}, slave, [])
    assert children() == before
    os.close(master)
    os.close(slave)
