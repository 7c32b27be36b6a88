"""The agent: everything it holds, and who is let in."""

from __future__ import annotations

import socket
import sys
import time
from _operator import _compare_digest as compare_digest  # as in `hmac`, which loads 1.5 MB of cryptography
from contextlib import suppress

from lohar.commands import Commands
from lohar.connection import Connection
from lohar.facts import machine_facts, running_commands
from lohar.failures import RequestError
from lohar.forward import ForwardClient
from lohar.requests import serve_request
from lohar.sessions import Sessions
from lohar.wire.frames import FrameType, encode
from lohar.wire.limits import LIMITS
from lohar.wire.messages import ActivityInfo, Facts
from lohar.worker import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.cgroups import CommandGroups
    from lohar.config import AgentConfig
    from lohar.launch import Launcher
    from lohar.loop import Loop
    from lohar.operation import Operation
    from lohar.reaper import Reaper
    from lohar.wire.limits import Limits


class Agent:
    """The state of one agent, and its clients."""

    def __init__(
        self,
        loop: Loop,
        reaper: Reaper,
        launcher: Launcher,
        config: AgentConfig,
        groups: CommandGroups | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        self.loop = loop
        self.config = config
        self.limits = limits
        self.worker = Worker(loop)
        self.commands = Commands(loop, reaper, launcher, config, groups)
        self.sessions = Sessions(loop, self.commands, self.note_activity, limits)
        self.connections: set[Connection] = set()
        self.forwards: set[ForwardClient] = set()
        self.greeted = False
        """Somebody has said HELLO, so the host speaks revision 2: connections are kept from then on. Hosts say it once
        and then open more connections; whoever never says it gets the reference's one request for each."""
        self._last_activity = int(time.time())

    def note_activity(self) -> None:
        """Remember that somebody uses the machine now."""
        self._last_activity = int(time.time())

    def configure(self, config: AgentConfig) -> None:
        """Take over a new configuration: a token counts for connections made from now on."""
        self.config = config
        self.commands.configure(config)

    # --- clients

    def accept_control(self, sock: socket.socket) -> None:
        """Serve a connection to the control port."""
        if self._admit(sock):
            gate = self._authorized if self.config.token is not None else None
            self.connections.add(Connection(self.loop, sock, self._dispatch, self.connections.discard, gate))

    def accept_forward(self, sock: socket.socket) -> None:
        """Serve a connection to the forward port."""
        if self._admit(sock):
            gate = self._token_matches if self.config.token is not None else None
            self.forwards.add(ForwardClient(self.loop, sock, gate, self.forwards.discard))

    def _admit(self, sock: socket.socket) -> bool:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            prepare_tcp(sock)
        if len(self.connections) + len(self.forwards) < self.limits.connections:
            return True
        # A new connection's buffer has room for so few bytes; if not, being closed says enough.
        with suppress(OSError):
            sock.send(encode(FrameType.ERROR, b"connection limit exceeded"))
        sock.close()
        return False

    def _authorized(self, kind: int, payload: bytes) -> bool:
        return kind == FrameType.AUTH and self._token_matches(payload)

    def _token_matches(self, token: bytes) -> bool:
        # Of this moment, as IDENTITY may have changed it. The time taken says nothing about where they differ.
        return compare_digest(token, (self.config.token or "").encode("utf-8", "surrogateescape"))

    def _dispatch(self, connection: Connection, kind: int, payload: bytes) -> Operation | None:
        connection.keep_alive = self.greeted
        return serve_request(self, connection, kind, payload)

    def start_init(self, script: str) -> None:
        """Run the sandbox's own start-up script. A failure is told on the console: nobody has asked for it."""
        try:
            self.sessions.run_init(script)
        except RequestError as error:
            print(f"lohar: init: {error}", file=sys.stderr, flush=True)

    # --- what is known

    def activity(self) -> ActivityInfo:
        """Return what the reference's idle logic asks for."""
        return ActivityInfo(
            last_activity_unix=self._last_activity,
            active_sessions=self.sessions.active,
            attached_sessions=self.sessions.attached,
        )

    def facts(self) -> Facts:
        """Return what ours asks for."""
        return machine_facts().replace(
            attached_sessions=self.sessions.attached,
            active_sessions=self.sessions.active,
            forwards=sum(client.connected for client in self.forwards),
            processes=running_commands(self.commands.running.values()),
            last_activity_unix=self._last_activity,
            generation=self.config.generation,
        )

    # --- the end

    def drop_others(self, asking: Connection) -> int:
        """Close all connections but one; return how many they were."""
        others = [client for client in self.connections if client is not asking]
        for client in others:
            client.drop(abort=True)
        forwards = list(self.forwards)
        for forward in forwards:
            forward.close()
        return len(others) + len(forwards)


def prepare_tcp(sock: socket.socket) -> None:
    """Send small frames at once, and notice within a minute a host that is gone without a word."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
