"""A real agent in test mode, and links to it and to peers of a test's own making."""

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.deadlines import DEADLINES, Deadlines
from bhatti.guestlink.transports import UnixTransport

START_LIMIT_S = 10
"""Expected: 0.1 s."""

NewLink = Callable[..., GuestLink]


@dataclass(frozen=True)
class AgentProcess:
    """A running agent: its sockets and its process."""

    control: Path
    forward: Path
    process: subprocess.Popen[bytes]

    def children(self) -> list[int]:
        """Return the pids of its children, zombies included."""
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, check=True, text=True
        ).stdout.split()
        pairs = zip(listing[::2], listing[1::2], strict=True)
        return [int(pid) for pid, parent in pairs if int(parent) == self.process.pid]


@contextlib.contextmanager
def running_agent(directory: Path) -> Iterator[AgentProcess]:
    """Run an agent whose sockets are in `directory`; kill it in the end."""
    control, forward = directory / "control", directory / "forward"
    env = {**os.environ, "LOHAR_TEST": "1", "LOHAR_SOCK": str(control), "LOHAR_FWD_SOCK": str(forward)}
    process = subprocess.Popen([sys.executable, "-m", "lohar"], env=env, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line == b"lohar: test mode ready\n", line + process.stderr.read()
        yield AgentProcess(control, forward, process)
    finally:
        process.terminate()
        process.communicate(timeout=START_LIMIT_S)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    with running_agent(tmp_path) as process:
        yield process


@pytest.fixture
async def new_link(tmp_path: Path) -> AsyncIterator[NewLink]:
    """Make links to the unix socket `tmp_path/agent`, or another; they are closed when the test ends."""
    links: list[GuestLink] = []

    def make(control: Path | None = None, *, token: str | None = None, deadlines: Deadlines = DEADLINES) -> GuestLink:
        links.append(GuestLink(UnixTransport(control or tmp_path / "agent"), token=token, deadlines=deadlines))
        return links[-1]

    yield make
    for made in links:
        await made.aclose()


@pytest.fixture
async def link(agent: AgentProcess) -> AsyncIterator[GuestLink]:
    """A link to the real agent."""
    async with GuestLink(UnixTransport(agent.control, agent.forward)) as made:
        yield made


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A directory of the guest, which in test mode is one of ours."""
    path = tmp_path / "workspace"
    path.mkdir()
    return path


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that only looking can tell; the test's own time limit ends it."""
    while not condition():  # noqa: ASYNC110 - what other processes do sets no event of ours
        await anyio.sleep(0.01)
