import os
import signal
import subprocess
import sys

import pytest

from lohar.processes import ProcessStat, process, processes, send_signal, session_members

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def test_a_name_may_hold_brackets_and_spaces() -> None:
    text = b"12 (a) (b c) S 3 4 5 0 -1 4194560 0 0 0 0 10 20 30 40 20 0 1 0 100"
    stat = ProcessStat(text)
    assert (stat.pid, stat.name, stat.state, stat.parent, stat.session, stat.terminal) == (
        12,
        "a) (b c",
        "S",
        3,
        5,
        False,
    )
    assert stat.cpu_ms == 100 * (1000 // os.sysconf("SC_CLK_TCK"))


@LINUX
def test_we_are_among_the_processes() -> None:
    ours = process(os.getpid())
    assert ours is not None
    assert (ours.parent, ours.session) == (os.getppid(), os.getsid(0))
    assert os.getpid() in {stat.pid for stat in processes()}


@LINUX
def test_a_process_that_is_not_there_is_none() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert process(child.pid) is None
    send_signal(child.pid, signal.SIGTERM)


@LINUX
def test_a_session_has_its_processes_without_its_zombies() -> None:
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        assert session_members(child.pid) == [child.pid]
    finally:
        send_signal(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert session_members(child.pid) == [], "ended, and not waited for"
    assert child.wait() == -signal.SIGKILL
