"""One session: a command that outlives its clients, on a terminal or on pipes.

Theory of operation. What the command says goes into the scrollback, and from there to each client at the client's own
pace: a client is a cursor. The one client that types, the holder, never has to lose a byte: no more is read from the
command than fits between the holder's cursor and the scrollback's capacity, so a slow holder slows the command down, as
a slow terminal does. Watchers have no such right; one that falls behind what is kept is disconnected.

A session ends when its command has ended and what it had written was read. Every client is sent the end after its last
byte. `on_end` is called at the session's end, `on_delivered` when the holder has been sent it.
"""

from __future__ import annotations

from lohar.operation import Operation
from lohar.pipes import READ_SIZE, InputPipe, OutputPipe
from lohar.scrollback import Scrollback
from lohar.terminal import resize
from lohar.wire.frames import FrameType, encode_exit, parse_resize
from lohar.wire.limits import LIMITS
from lohar.wire.messages import ExitInfo, ExitReason, SessionInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lohar.child import Child
    from lohar.connection import Connection
    from lohar.loop import Loop, Timer
    from lohar.wire.messages import ExecRequest

REPLAY_SIZE = 512 << 10
"""Scrollback sent in one frame: all of it, as the reference does, unless a client asked for a giant ring."""

QUIET_S = LIMITS.drain_timeout_ms / 1000


class Session:
    """A session. `outputs` are our ends of what the command writes, each with the kind of its frames."""

    def __init__(
        self,
        loop: Loop,
        identifier: str,
        request: ExecRequest,
        child: Child,
        stdin: int,
        outputs: tuple[tuple[int, int], ...],
        on_input: Callable[[], None],
    ) -> None:
        self.identifier = identifier
        self.child = child
        self.tty = request.tty
        self.holder: SessionClient | None = None
        self.watchers: list[SessionClient] = []
        self.ended = False
        self.on_end: Callable[[Session], None] | None = None
        self.on_delivered: Callable[[Session], None] | None = None
        self.scrollback = Scrollback(request.ring_bytes or LIMITS.ring_bytes)
        self._loop = loop
        self._on_input = on_input
        self._max_idle_s = request.max_idle_sec
        self._idle: Timer | None = None
        self._quiet: Timer | None = None
        # A quarter of what is kept, so that a holder can be that far behind before the command has to wait.
        self._step = max(1, min(READ_SIZE, self.scrollback.capacity // 4))
        self._stdin = InputPipe(loop, stdin, self._room)
        self._outputs = [self._output(fd, kind) for fd, kind in outputs]
        self._terminal = outputs[0][0] if request.tty else -1
        child.session_id = identifier
        child.on_exit = self._exited

    def _output(self, fd: int, kind: int) -> OutputPipe:
        return OutputPipe(self._loop, fd, lambda data: self._said(kind, data), self._silent, self._step)

    def info(self, gap: int | None = None) -> SessionInfo:
        """Describe it, to a list or to a client that attaches and has missed `gap` bytes."""
        child = self.child
        return SessionInfo(
            session_id=self.identifier,
            argv=" ".join(child.argv),
            tty=self.tty,
            running=not self.ended,
            exit_code=child.code if self.ended else None,
            attached=self.holder is not None,
            created_at=int(child.started_at),
            offset=self.scrollback.total,
            start=self.scrollback.start,
            gap=gap,
            reason=child.reason if self.ended else None,
            pid=child.pid,
            watchers=len(self.watchers),
        )

    # --- clients

    def attach(self, client: SessionClient, since: int | None = None) -> None:
        """Let a client in; as the holder unless it is read-only. A holder that is there already is sent away."""
        gap = None
        start, total = self.scrollback.start, self.scrollback.total
        client.cursor = start
        if since is not None:
            client.cursor = max(start, min(since, total))
            gap = client.cursor - min(since, total)
        if client.read_only:
            self.watchers.append(client)
        else:
            previous, self.holder = self.holder, client
            if previous is not None:
                previous.send_away()
        if self._idle is not None:
            self._idle.cancel()
        client.connection.send(FrameType.SESSION_INFO, self.info(gap).to_json())
        client.pump()
        self.regulate()

    def detach(self, client: SessionClient) -> None:
        """Let a client go. One that was sent away already has no say in it."""
        if client is self.holder:
            self.holder = None
        elif client in self.watchers:
            self.watchers.remove(client)
        else:
            return
        self.regulate()
        if self.holder is None and not self.watchers and self._max_idle_s and self.child.running:
            self._idle = self._loop.call_later(self._max_idle_s, self._idled)

    def delivered(self, client: SessionClient) -> None:
        """Learn that a client has been sent the end."""
        holder = client is self.holder
        self.detach(client)
        if holder and self.on_delivered is not None:
            self.on_delivered(self)

    def _idled(self) -> None:
        self.child.kill(ExitReason.TIMEOUT)

    # --- input

    def type(self, data: bytes) -> None:
        """Pass the holder's input on; none means its end, on pipes (a terminal's end is a character)."""
        if data:
            self._on_input()
            self._stdin.write(data)
            if self._stdin.full and self.holder is not None:
                self.holder.connection.pause()
        elif not self.tty:
            self._stdin.end()

    def resize(self, rows: int, cols: int) -> None:
        """Set the terminal's size."""
        # Not once the terminal is closed: its number may be another file's by now.
        if self.tty and self._outputs[0].open:
            resize(self._terminal, rows, cols)

    def ask_to_end(self) -> None:
        """Do what KILL asks: a terminal's program may say good-bye, a piped command is killed."""
        if self.tty:
            self.child.ask_to_end(ExitReason.KILLED)
        else:
            self.child.kill(ExitReason.KILLED)

    def _room(self) -> None:
        if self.holder is not None:
            self.holder.connection.resume()

    # --- output

    def _said(self, kind: int, data: bytes) -> None:
        self.scrollback.write(kind, data)
        if self.holder is not None:
            self.holder.pump()
        for watcher in tuple(self.watchers):
            watcher.pump()
        self.regulate()
        if self._quiet is not None:
            self._await_quiet()

    def regulate(self) -> None:
        """Read on, or stop reading until the holder has caught up."""
        holder = self.holder
        backlog = 0 if holder is None else self.scrollback.total - holder.cursor
        blocked = backlog > self.scrollback.capacity - self._step
        for output in self._outputs:
            if blocked:
                output.pause()
            else:
                output.resume()

    def _exited(self, _child: Child) -> None:
        self._end_if_done()
        if not self.ended:
            self._await_quiet()

    def _silent(self) -> None:
        self._end_if_done()

    def _end_if_done(self) -> None:
        if not self.child.running and not any(output.open for output in self._outputs):
            self._end()

    def _await_quiet(self) -> None:
        # A background process holds a pipe (a terminal is hung up at its leader's end): see `lohar.exec`.
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = self._loop.call_later(QUIET_S, self._went_quiet)

    def _went_quiet(self) -> None:
        if self.holder is not None and self.holder.cursor < self.scrollback.total:
            self._await_quiet()  # it is the client that is slow
            return
        for output in self._outputs:
            output.drain()
        self._end()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        for timer in (self._quiet, self._idle):
            if timer is not None:
                timer.cancel()
        self._stdin.close()
        for output in self._outputs:
            if self.tty:
                output.close()
            else:
                output.discard()
        if self.on_end is not None:
            self.on_end(self)
        for client in (self.holder, *self.watchers):
            if client is not None:
                client.pump()


class SessionClient(Operation):
    """A connection that is attached to a session. `cursor` is the position after the last byte it was sent."""

    __slots__ = ("_request", "cursor", "read_only", "session")

    def __init__(self, connection: Connection, session: Session, request: ExecRequest) -> None:
        super().__init__(connection)
        self.session = session
        self.read_only = request.read_only
        self.cursor = 0
        self._request = request

    def begin(self) -> None:
        """Attach."""
        self.session.attach(self, self._request.since)

    def frame(self, kind: int, payload: bytes) -> None:
        """Take what the client types, a new size, or KILL; from a watcher, nothing."""
        if self.read_only:
            return
        if kind == FrameType.STDIN:
            self.session.type(payload)
        elif kind == FrameType.RESIZE:
            size = parse_resize(payload)
            if size is not None:
                self.session.resize(*size)
        elif kind == FrameType.KILL:
            self.session.ask_to_end()

    def end(self) -> None:
        """Detach: a client that sends no more has left."""
        self.connection.drop()

    def lost(self) -> None:
        """Detach."""
        self.session.detach(self)

    def drained(self) -> None:
        """Go on where the connection was full."""
        self.pump()
        self.session.regulate()

    def pump(self) -> None:
        """Send what the client has not seen, as far as the connection takes it, and then the end if it has come."""
        session, connection = self.session, self.connection
        if connection.operation is not self:
            return
        scrollback = session.scrollback
        while self.cursor < scrollback.total:
            if connection.congested:
                return
            if self.cursor < scrollback.start:
                connection.drop()  # a watcher that is too slow: see the module
                return
            kind, data = scrollback.read(self.cursor, REPLAY_SIZE)
            connection.send(kind, data)
            self.cursor += len(data)
        if session.ended:
            info = session.child.exit_info().to_json() if self._request.exit_info else b""
            self._leave(encode_exit(session.child.code, info))
            session.delivered(self)

    def send_away(self) -> None:
        """Make room for a new holder."""
        info = ExitInfo(reason=ExitReason.TAKEN_OVER).to_json() if self._request.exit_info else b""
        self._leave(encode_exit(0, info))

    def _leave(self, payload: bytes) -> None:
        # After a terminal's EXIT the reference's agent leaves closing to the host.
        self.connection.stay_open = self.session.tty
        self.connection.send(FrameType.EXIT, payload)
        self.connection.finish()
