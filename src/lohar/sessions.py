"""All sessions: their names, who may attach, how many there may be, and when an ended one is forgotten."""

from __future__ import annotations

import os

from lohar.exec import start_piped
from lohar.failures import RequestError
from lohar.session import Session, SessionClient
from lohar.terminal import start_on_terminal
from lohar.wire.frames import FrameType
from lohar.wire.limits import LIMITS
from lohar.wire.messages import ExecRequest, ExitReason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lohar.commands import Commands
    from lohar.connection import Connection
    from lohar.loop import Loop, Timer
    from lohar.wire.limits import Limits
    from lohar.wire.messages import SessionInfo

INIT_SESSION = "init"
"""The session in which a sandbox's own start-up script runs."""


class Sessions:
    """The table of sessions. `on_input` is told whenever somebody types."""

    def __init__(self, loop: Loop, commands: Commands, on_input: Callable[[], None], limits: Limits = LIMITS) -> None:
        self._loop = loop
        self._commands = commands
        self._on_input = on_input
        self._limits = limits
        self._table: dict[str, Session] = {}
        self._forgetting: dict[str, Timer] = {}
        self._counter = 0

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._table.values()))

    def list(self) -> list[SessionInfo]:
        """Describe all of them, the oldest first."""
        return [session.info() for session in self]

    @property
    def active(self) -> int:
        """How many are running."""
        return sum(not session.ended for session in self)

    @property
    def attached(self) -> int:
        """How many have a client that types, or one that watches."""
        return sum(session.holder is not None or bool(session.watchers) for session in self)

    def open(self, connection: Connection, request: ExecRequest) -> SessionClient:
        """Start a session for the connection that asked for it. Raises `RequestError`."""
        # Also a start that fails uses a number up, so that no client can mistake one session for another.
        self._counter += 1
        session = self._start(f"s{self._counter}", request)
        return SessionClient(connection, session, request.replace(read_only=False, since=None))

    def run_init(self, script: str) -> None:
        """Start the sandbox's start-up script, with nobody attached. Raises `RequestError`."""
        self._start(INIT_SESSION, ExecRequest(argv=("sh", "-c", script), tty=True))

    def attach(self, connection: Connection, request: ExecRequest) -> SessionClient:
        """Make a connection a client of the session that it names. Raises `RequestError`."""
        session = self._find(request.session_id)
        if not request.read_only and session.holder is not None and (request.if_detached or not request.takeover):
            raise RequestError("session is attached")
        if request.rows and request.cols and not request.read_only:
            session.resize(request.rows, request.cols)
        return SessionClient(connection, session, request)

    def kill(self, identifier: str) -> None:
        """Kill a session's command; forget a session that has ended. Raises `RequestError` if there is none."""
        session = self._find(identifier)
        if session.ended:
            self._forget(session)
        else:
            session.child.kill(ExitReason.KILLED)

    def _find(self, identifier: str) -> Session:
        session = self._table.get(identifier)
        if session is None:
            raise RequestError("session not found")
        return session

    def _start(self, identifier: str, request: ExecRequest) -> Session:
        if self.active >= self._limits.sessions:
            raise RequestError("session limit exceeded")
        outputs: tuple[tuple[int, int], ...]
        if request.tty:
            child, master = start_on_terminal(self._commands, request)
            # Two descriptors, because the loop watches reading and writing by one callback each.
            stdin, outputs = os.dup(master), ((master, FrameType.STDOUT),)
        else:
            child, stdin, out, err = start_piped(self._commands, request)
            outputs = ((out, FrameType.STDOUT), (err, FrameType.STDERR))
        session = Session(self._loop, identifier, request, child, stdin, outputs, self._on_input)
        session.on_end = self._ended
        session.on_delivered = self._forget
        self._table[identifier] = session
        return session

    def _ended(self, session: Session) -> None:
        ended = [other for other in self if other.ended]
        if len(ended) > self._limits.sessions:
            # Whoever starts sessions and never comes back must not fill the memory for the time they are kept.
            self._forget(ended[0])
        delay_s = self._limits.exited_session_ms / 1000
        self._forgetting[session.identifier] = self._loop.call_later(delay_s, lambda: self._forget(session))

    def _forget(self, session: Session) -> None:
        if self._table.get(session.identifier) is session:
            del self._table[session.identifier]
            timer = self._forgetting.pop(session.identifier, None)
            if timer is not None:
                timer.cancel()  # it holds the session with its scrollback
