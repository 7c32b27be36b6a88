"""A guest agent in test mode, and the plainest client there is: what is measured through it is the agent."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lohar.wire.frames import FrameParser, FrameType, encode

START_LIMIT_S = 5.0
"""Expected: 150 ms. More than this is no agent."""

POLL_S = 0.002


@dataclass(frozen=True, slots=True)
class AgentProcess:
    """A running agent."""

    control: Path
    forward: Path
    pid: int
    started_in_s: float


@contextlib.contextmanager
def agent() -> Iterator[AgentProcess]:
    """Run an agent for as long as the block lasts. Raises `RuntimeError` if it does not come up."""
    with tempfile.TemporaryDirectory(prefix="bhatti-bench-") as name:
        control, forward = Path(name, "control"), Path(name, "forward")
        env = {**os.environ, "LOHAR_TEST": "1", "LOHAR_SOCK": str(control), "LOHAR_FWD_SOCK": str(forward)}
        begin = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "lohar"], env=env, stderr=subprocess.PIPE)
        try:
            while not control.exists():
                if process.poll() is not None or time.perf_counter() - begin > START_LIMIT_S:
                    raise RuntimeError(f"the agent did not start: exit code {process.poll()}")
                time.sleep(POLL_S)
            yield AgentProcess(control, forward, process.pid, time.perf_counter() - begin)
        finally:
            process.kill()
            process.communicate()


class RawClient:
    """Blocking, one connection, no options: send a request, read frames until the one that completes it."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(str(path))
        self._parser = FrameParser()

    def request(self, message: bytes, last: int) -> list[tuple[int, bytes]]:
        """Return the frames of the answer, up to the first of type `last`. Raises `RuntimeError` on ERROR."""
        self._sock.sendall(message)
        seen: list[tuple[int, bytes]] = []
        while not seen or seen[-1][0] != last:
            data = self._sock.recv(65536)
            if not data:
                raise RuntimeError("the agent closed the connection")
            self._parser.feed(data)
            seen += self._parser.frames()
            if seen and seen[-1][0] == FrameType.ERROR:
                raise RuntimeError(seen[-1][1].decode())
        return seen

    def hello(self) -> None:
        """Make this a client of the second revision, whose connections are kept."""
        self.request(encode(FrameType.HELLO_REQ, b"{}"), FrameType.HELLO_RESP)

    def download(self, message: bytes, buffer: memoryview) -> int:
        """Read an answer to its end without parsing more than its end; return its size in bytes.

        The answer is complete when EXIT 0 are its last bytes, which content made for this never holds.
        """
        self._sock.sendall(message)
        received = 0
        while True:
            size = self._sock.recv_into(buffer)
            received += size
            if bytes(buffer[max(0, size - len(DONE)) : size]).endswith(DONE):
                return received

    def send(self, data: bytes | memoryview) -> None:
        """Send raw bytes."""
        self._sock.sendall(data)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()


DONE = encode(FrameType.EXIT, b"\0\0\0\0")
"""EXIT 0, as it ends a download."""


def once(path: Path, message: bytes, last: int) -> list[tuple[int, bytes]]:
    """Make one request over a connection of its own."""
    client = RawClient(path)
    try:
        return client.request(message, last)
    finally:
        client.close()
