"""An agent in this process, and clients of it: what unit tests of the modules behind a connection are given.

One loop, turned by the test itself while it waits for an answer; real sockets, real children.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lohar.agent import Agent
from lohar.config import AgentConfig
from lohar.launch import Launcher
from lohar.loop import Loop
from lohar.reaper import Reaper
from lohar.wire.frames import FrameParser, FrameType, encode, parse_exit

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 10.0


class Serving:
    """An agent, its loop, and everything that must be given back afterwards."""

    def __init__(self, **config: Any) -> None:  # noqa: ANN401 - the fields of AgentConfig
        self.loop = Loop()
        self.reaper = Reaper(self.loop)
        self.launcher = Launcher()
        self.agent = Agent(self.loop, self.reaper, self.launcher, AgentConfig(home="/root", **config))
        self.reaper.start()
        self._clients: list[Client] = []

    def connect(self, *, forward: bool = False) -> Client:
        """Return a new client of the control port, or of the forward port."""
        near, far = socket.socketpair()
        (self.agent.accept_forward if forward else self.agent.accept_control)(far)
        client = Client(self, near)
        self._clients.append(client)
        return client

    def turn_until(self, done: Callable[[], object]) -> None:
        """Turn the loop until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {PATIENCE_S} s")
            self.loop.turn(0.02)

    def close(self) -> None:
        """Lose all clients, and see that no command outlives them."""
        for client in self._clients:
            client.sock.close()
        for session in self.agent.sessions:
            self.agent.sessions.kill(session.identifier)
        self.turn_until(lambda: not self.agent.connections and not self.agent.commands.running)
        self.reaper.close()
        self.launcher.close()
        self.loop.close()


class Client:
    """One connection to the agent."""

    def __init__(self, serving: Serving, sock: socket.socket) -> None:
        self.sock = sock
        self._serving = serving
        self._parser = FrameParser()
        self._frames: list[tuple[int, bytes]] = []
        self.closed = False
        sock.setblocking(False)

    def send(self, kind: int, payload: bytes = b"", /, **message: Any) -> None:  # noqa: ANN401 - JSON is anything
        """Send a frame: `payload`, or a message; the agent runs meanwhile, as it is in the same thread."""
        waiting = memoryview(encode(kind, json.dumps(message).encode() if message else payload))
        while waiting:
            try:
                waiting = waiting[self.sock.send(waiting) :]
            except BlockingIOError:
                self._serving.loop.turn(0.02)

    def receive(self) -> tuple[int, bytes]:
        """Return the next frame; (-1, b"") when the agent has closed."""
        self._serving.turn_until(self._read)
        return self._frames.pop(0) if self._frames else (-1, b"")

    def expect(self, kind: int) -> bytes:
        """Return the payload of the next frame, which must be of this type."""
        found, payload = self.receive()
        assert found == kind, f"expected {FrameType(kind).name}, got {found} {payload!r}"
        return payload

    def json(self, kind: int) -> Any:  # noqa: ANN401 - JSON is anything
        """Return the message of the next frame, which must be of this type."""
        return json.loads(self.expect(kind))

    def error(self) -> str:
        """Return the words of the ERROR that must come next."""
        return self.expect(FrameType.ERROR).decode()

    def output(self) -> tuple[bytes, bytes, int]:
        """Gather stdout and stderr until EXIT; return them and the code."""
        kept = {FrameType.STDOUT: b"", FrameType.STDERR: b""}
        while True:
            kind, payload = self.receive()
            if kind == FrameType.EXIT:
                parsed = parse_exit(payload)
                assert parsed is not None
                return kept[FrameType.STDOUT], kept[FrameType.STDERR], parsed[0]
            kept[FrameType(kind)] += payload

    def hello(self) -> Any:  # noqa: ANN401 - JSON is anything
        """Say HELLO, which keeps the connection for more requests."""
        self.send(FrameType.HELLO_REQ, client="unit test")
        return self.json(FrameType.HELLO_RESP)

    def _read(self) -> bool:
        while not self._frames and not self.closed:
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                data = b""
            self.closed = not data
            self._parser.feed(data)
            self._frames = self._parser.frames()
        return True


def open_files() -> int:
    """Count this process's descriptors."""
    return len(list(Path("/proc/self/fd").iterdir()))
