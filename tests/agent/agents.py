"""The agents that the suite runs against: one on this host in test mode, or one anywhere that is reached over TCP."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.agent.client import PATIENCE_S, SLOWNESS, Connection

from lohar.wire.frames import CONTROL_PORT, FORWARD_PORT, FrameType, encode

if TYPE_CHECKING:
    from collections.abc import Callable

START_PATIENCE_S = 10.0
"""A hundred times what a start takes."""


class Agent:
    """An agent under test. `directory` is a place of its own for the test that has it, on the agent's machine."""

    directory: str
    local: bool

    def connect(self) -> Connection:
        """Connect to the control port, authenticated."""
        raise NotImplementedError

    def connect_forward(self) -> socket.socket:
        """Connect to the forward port, authenticated."""
        raise NotImplementedError

    def path(self, name: str) -> str:
        """Return the path of a file in the test's directory."""
        return f"{self.directory}/{name}"

    def sh(self, script: str, *, patience_s: float = PATIENCE_S) -> str:
        """Run a shell script on the agent's machine, which must succeed; return what it printed."""
        with self.connect() as connection:
            result = connection.exec("sh", "-euc", script, patience_s=patience_s)
            assert result.code == 0, (script, result)
            return result.stdout.decode()

    def sessions(self) -> dict[str, dict[str, Any]]:
        """Return what the agent lists, by id."""
        with self.connect() as connection:
            connection.send(FrameType.EXEC_LIST_REQ)
            return {session["session_id"]: session for session in connection.expect_json(FrameType.EXEC_LIST_RESP)}

    def facts(self) -> dict[str, Any]:
        """Return FACTS."""
        with self.connect() as connection:
            connection.send(FrameType.FACTS_REQ)
            return dict(connection.expect_json(FrameType.FACTS_RESP))

    def close(self) -> None:
        """End what the test has begun."""


class LocalAgent(Agent):
    """`lohar` in test mode, as a real process on unix sockets."""

    local = True

    def __init__(self, directory: Path, **environment: str) -> None:
        self.root = directory
        self.control = directory / "control.sock"
        self.forward = directory / "forward.sock"
        scratch = directory / "files"
        scratch.mkdir()
        self.directory = str(scratch)
        self._log = (directory / "agent.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-m", "lohar"],
            env={
                "LOHAR_TEST": "1",
                "LOHAR_SOCK": str(self.control),
                "LOHAR_FWD_SOCK": str(self.forward),
                "PATH": os.environ["PATH"],
                **environment,
            },
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        wait_until(self.control.exists, "the control socket is there", START_PATIENCE_S)

    def file(self, name: str) -> Path:
        """Return a file of the test's directory, which is on this host too."""
        return Path(self.directory) / name

    @property
    def pid(self) -> int:
        """The agent's process."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has printed."""
        return (self.root / "agent.log").read_text()

    def connect(self) -> Connection:
        return Connection(_unix(self.control))

    def connect_forward(self) -> socket.socket:
        return _unix(self.forward)

    def descriptors(self) -> int:
        """Count the agent's open files."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def children(self) -> set[int]:
        """Return the pids of the agent's children, zombies included."""
        return {int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()}

    def memory_kib(self) -> int:
        """Return the resident memory of the agent."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(START_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._log.close()
        assert "Traceback" not in self.log, self.log
        assert code == 0, self.log


class RemoteAgent(Agent):
    """An agent in a machine of its own, reached over TCP. It serves the whole suite, one test after the other."""

    local = False

    def __init__(
        self,
        host: str,
        token: str | None,
        name: str,
        control_port: int = CONTROL_PORT,
        forward_port: int = FORWARD_PORT,
    ) -> None:
        self._host = host
        self._token = token
        self._ports = (control_port, forward_port)
        self.directory = f"/tmp/agent-tests/{name}"
        self.sh(f"mkdir -p {shlex.quote(self.directory)}")

    def connect(self) -> Connection:
        connection = Connection(
            socket.create_connection((self._host, self._ports[0]), timeout=START_PATIENCE_S * SLOWNESS)
        )
        if self._token is not None:
            connection.send(FrameType.AUTH, self._token.encode())
        return connection

    def connect_forward(self) -> socket.socket:
        sock = socket.create_connection((self._host, self._ports[1]), timeout=START_PATIENCE_S * SLOWNESS)
        if self._token is not None:
            sock.sendall(encode(FrameType.AUTH, self._token.encode()))
        return sock

    def close(self) -> None:
        self.sh(f"rm -rf {shlex.quote(self.directory)}")
        for identifier in self.sessions():
            with self.connect() as connection:
                connection.send_json(FrameType.EXEC_KILL, session_id=identifier)
                connection.receive()


def _unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(START_PATIENCE_S)
    sock.connect(str(path))
    return sock


def wait_until(condition: Callable[[], object], what: str, patience_s: float = 10.0) -> None:
    """Wait for something that nobody announces; fails if it does not come."""
    deadline = time.monotonic() + patience_s * SLOWNESS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience_s} s until {what}")
        time.sleep(0.002)


def process_exists(pid: int) -> bool:
    """Tell whether there is such a process on this host, zombies included."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
