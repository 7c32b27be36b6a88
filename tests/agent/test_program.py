"""The program `lohar` itself: how it starts, what it says, how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.agent.agents import LocalAgent, process_exists, wait_until

from lohar import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping


def lohar(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-m", "lohar", *arguments],
        env={"PATH": os.environ["PATH"], **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_it_says_its_version(option: str) -> None:
    result = lohar(option)
    assert (result.returncode, result.stdout) == (0, f"lohar {__version__}\n")


def test_it_explains_itself() -> None:
    result = lohar("--help")
    assert result.returncode == 0
    assert "LOHAR_SOCK" in result.stdout


def test_it_refuses_to_be_anything_but_init_or_a_test() -> None:
    result = lohar()
    assert result.returncode == 1
    assert "neither PID 1 nor in test mode" in result.stderr


def test_it_knows_no_other_arguments() -> None:
    result = lohar("--serve")
    assert result.returncode == 2
    assert "--serve" in result.stderr


@pytest.mark.parametrize("given", [{}, {"LOHAR_SOCK": "/tmp/x"}, {"LOHAR_FWD_SOCK": "/tmp/x"}])
def test_test_mode_needs_both_sockets(given: dict[str, str]) -> None:
    result = lohar(environment={"LOHAR_TEST": "1", **given})
    assert result.returncode == 1
    assert "LOHAR_SOCK" in result.stderr
    assert not Path("/tmp/x").exists()


def test_the_installed_program_is_the_same() -> None:
    program = Path(sys.executable).parent / "lohar"
    if not program.exists():
        pytest.skip("the project is not installed in this environment")
    result = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == f"lohar {__version__}\n"


def test_it_says_when_it_is_ready(tmp_path: Path) -> None:
    agent = LocalAgent(tmp_path)
    wait_until(lambda: "lohar: test mode ready\n" in agent.log, "it says so")
    agent.close()


def test_the_control_socket_appears_when_it_listens_and_after_the_other(tmp_path: Path) -> None:
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        agent = LocalAgent(folder)  # returns as soon as the control socket's file is there
        assert agent.forward.exists()
        with agent.connect() as connection:
            assert connection.exec("true").code == 0
        with agent.connect_forward():
            pass
        agent.close()
        assert sorted(path.name for path in folder.iterdir()) == ["agent.log", "files"]


def test_sockets_that_an_earlier_agent_left_are_replaced(tmp_path: Path) -> None:
    for name in ("control.sock", "control.sock~", "forward.sock", "forward.sock~"):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(tmp_path / name))
    environment = {"LOHAR_SOCK": str(tmp_path / "control.sock"), "LOHAR_FWD_SOCK": str(tmp_path / "forward.sock")}
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "lohar"], env={"LOHAR_TEST": "1", **environment}, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.readline() == b"lohar: test mode ready\n"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(environment["LOHAR_SOCK"])
    process.terminate()
    assert process.wait(60) == 0


def test_a_file_in_the_place_of_a_socket_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    paths = {"LOHAR_SOCK": str(tmp_path / "precious"), "LOHAR_FWD_SOCK": str(tmp_path / "forward.sock")}
    result = lohar(environment={"LOHAR_TEST": "1", **paths})
    assert result.returncode == 1
    assert "is no socket" in result.stderr
    assert (tmp_path / "precious").read_text() == "data"


def test_a_socket_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path / ("long" * 30)):
        paths = {"LOHAR_SOCK": str(folder / "control"), "LOHAR_FWD_SOCK": str(folder / "forward")}
        result = lohar(environment={"LOHAR_TEST": "1", **paths})
        assert result.returncode == 1
        assert result.stderr.startswith("lohar: cannot listen on ")
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_told_to_and_takes_everything_along(tmp_path: Path, number: signal.Signals) -> None:
    agent = LocalAgent(tmp_path)
    pids = []
    scripts = ("echo $$; sleep 60", "echo $$; trap '' TERM HUP; sleep 60; sleep 60", "(setsid sleep 60 & echo $!)")
    connections = [agent.connect() for _ in scripts]
    for connection, script in zip(connections, scripts, strict=True):
        connection.start("sh", "-c", script)
        pids.append(int(connection.read_until(b"\n")))
    with agent.connect() as connection:
        pids.append(connection.open_session("bash")["pid"])
    agent.process.send_signal(number)
    agent.process.wait(60)
    assert not [pid for pid in pids if process_exists(pid)]
    agent.close()
    assert not agent.control.exists()
    for connection in connections:
        connection.close()


def test_a_client_sees_the_end_of_an_agent_that_ends(tmp_path: Path) -> None:
    agent = LocalAgent(tmp_path)
    with agent.connect() as connection:
        connection.hello()
        agent.close()
        connection.expect_closed()


def test_no_environment_of_the_agent_reaches_a_command(tmp_path: Path) -> None:
    agent = LocalAgent(tmp_path, SECRET="hidden", PATH="/nonexistent")
    with agent.connect() as connection:
        assert b"SECRET" not in connection.exec("env").stdout
    agent.close()
