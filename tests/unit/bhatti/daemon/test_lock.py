import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bhatti.daemon.lock import holder, sole_daemon
from bhatti.errors import Conflict

HOLD = """
import sys, pathlib
from bhatti.daemon.lock import sole_daemon
with sole_daemon(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "daemon.lock"


def test_a_second_daemon_is_told_the_pid_of_the_first(path: Path) -> None:
    ours = rf"already running .*, pid {os.getpid()}"
    with sole_daemon(path), pytest.raises(Conflict, match=ours) as caught, sole_daemon(path):
        pass
    assert caught.value.code == "already-running"
    assert f"kill {os.getpid()}" in (caught.value.hint or "")


def test_the_lock_is_free_again_afterwards(path: Path) -> None:
    for _ in range(2):
        with sole_daemon(path):
            assert holder(path) == os.getpid()
        assert holder(path) is None


def test_nobody_holds_a_lock_that_is_not_there(path: Path) -> None:
    assert holder(path) is None


def test_a_killed_daemon_holds_nothing(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert holder(path) == process.pid
        with pytest.raises(Conflict, match=f"pid {process.pid}"), sole_daemon(path):
            pass
        process.send_signal(signal.SIGKILL)
    with sole_daemon(path):
        assert path.read_text() == f"{os.getpid()}\n"
