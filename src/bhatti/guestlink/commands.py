"""Commands in the guest, as streams of events and in one piece."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bhatti.errors import GuestFailure, GuestTimeout
from bhatti.guestlink.channel import Channel, Frame
from bhatti.guestlink.exchange import Exchange
from bhatti.guestlink.failures import endless, violation
from lohar.wire.frames import FrameType, encode, parse_exit
from lohar.wire.messages import Detached, ExecRequest, ExitInfo, ExitReason, Feature, OomKill

STDIN_PIECE = 128 << 10
"""Bytes of input sent as one frame: large enough that frames cost nothing, small enough to leave the socket's buffer
room for the next one while the agent writes this one."""

MAX_DETACHED_BYTES = 64 << 10
"""What an agent says of a detached command: a pid and a path of at most 4096 bytes."""

OUTPUT = frozenset({FrameType.STDOUT, FrameType.STDERR})

MAX_LATE_BYTES = 16 << 20
"""Output taken when a command's time is up for good. What its end can have overtaken lies in pipes, in sockets and with
an agent that a slow reader held up: one or two MiB."""


@dataclass(frozen=True, slots=True)
class Stdout:
    """Output."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stderr:
    """Error output."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Exit:
    """The end: the exit code, why it came to it, and what is known about that."""

    code: int
    reason: ExitReason
    signal: int | None = None
    oom: OomKill | None = None


Event = Stdout | Stderr | Exit


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command wrote and how it ended. `truncated`: there was more output than was asked to be kept."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    reason: ExitReason = ExitReason.EXITED
    truncated: bool = False
    signal: int | None = None
    oom: OomKill | None = None


class ExecStream:
    """A command or session in the guest, as an async context manager and an async iterator of `Event`s.

    The iteration ends after `Exit`, which is also kept in `exit`. One task may iterate while another sends input.
    """

    def __init__(self, exchange: Exchange, request: ExecRequest) -> None:
        self.exit: Exit | None = None
        self._exchange = exchange
        self._request = request
        self._timeout_s = request.timeout_sec or None
        self._until: float | None = None
        self._kill_reason: ExitReason | None = None
        self._overdue = False
        self._late_bytes = 0
        self._events: deque[Event] = deque()
        self._channel_or_none: Channel | None = None

    @property
    def _channel(self) -> Channel:
        if self._channel_or_none is None:
            raise RuntimeError("use it with `async with`")
        return self._channel_or_none

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def open(self, *more: bytes) -> None:
        """Start the command; `more` are encoded frames to send along. Raises `GuestFailure`, `Unavailable`.

        Safe to cancel: if the request was sent, the command is killed.
        """
        pool = self._exchange.pool
        await self._require_features()
        self._channel_or_none = channel = await pool.acquire()
        channel.send_all(encode(FrameType.EXEC_REQ, self._request.to_json()), *more)
        if self._timeout_s is not None:
            # An agent that knows `timeout_sec` kills by itself, in the guest's time; we only make sure.
            knows = await pool.has(Feature.EXEC_OPTIONS)
            self._until = pool.deadline(self._timeout_s + (self._exchange.deadlines.kill_grace_s if knows else 0))

    def close(self) -> None:
        """Leave. A command that still runs is killed. Idempotent."""
        channel, self._channel_or_none = self._channel_or_none, None
        if channel is None:
            return
        if self.exit is None:
            self._abandon(channel)
            self._exchange.pool.discard(channel)
        else:
            self._exchange.pool.release(channel)

    def _abandon(self, channel: Channel) -> None:
        """Make sure that the agent does not go on with a command that nobody waits for."""
        channel.kill_and_close()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """Return the next event. Safe to cancel: no event is lost."""
        while not self._events:
            if self.exit is not None:
                raise StopAsyncIteration
            for frame in await self.frames():
                self._take(frame)
        return self._events.popleft()

    def _take(self, frame: Frame) -> None:
        kind, payload = frame
        if kind == FrameType.STDOUT:
            self._events.append(Stdout(payload))
        elif kind == FrameType.STDERR:
            self._events.append(Stderr(payload))
        else:
            self._events.append(self.finish(kind, payload))

    async def frames(self, *, or_writable: bool = False) -> list[Frame]:
        """Return the frames that have come; enforce the timeout while waiting for them. Safe to cancel."""
        channel = self._channel
        while True:
            try:
                frames = await self._exchange.patiently(
                    lambda deadline: channel.receive(deadline, or_writable=or_writable), self._until
                )
            except GuestTimeout:
                if not self._late or self._overdue:
                    raise
                self._insist()
            else:
                if self._late and all(kind in OUTPUT for kind, _ in frames):
                    self._take_late(frames)
                return frames

    @property
    def _late(self) -> bool:
        return self._until is not None and asyncio.get_running_loop().time() >= self._until

    def _insist(self) -> None:
        """Kill the command: the agent did not keep the time itself."""
        self._overdue = True
        self._until = self._exchange.pool.deadline(self._exchange.deadlines.kill_grace_s)
        self._send_kill(ExitReason.TIMEOUT)

    def _take_late(self, frames: list[Frame]) -> None:
        """Let what was on its way come, but not output without an end, which leaves no moment of silence to time."""
        if not self._overdue:
            self._insist()
            return
        self._late_bytes += sum(len(payload) for _, payload in frames)
        if self._late_bytes > MAX_LATE_BYTES:
            raise endless(self._exchange.pool.peer, self._timeout_s or 0)

    def finish(self, kind: int, payload: bytes) -> Exit:
        """Take the last frame: return what EXIT says, raise what ERROR says."""
        parsed = parse_exit(payload) if kind == FrameType.EXIT else None
        if parsed is None:
            channel, self._channel_or_none = self._channel, None
            raise self._exchange.refuse(channel, kind, payload)
        code, detail = parsed
        if detail:
            info = self._exchange.decode(ExitInfo, detail)
            self.exit = Exit(code, info.reason, info.signal, info.oom)
        else:
            signalled = ExitReason.SIGNALLED if code > 128 else ExitReason.EXITED
            self.exit = Exit(code, self._kill_reason or signalled)
        return self.exit

    async def send_stdin(self, data: bytes) -> None:
        """Send input; wait while the command does not read. Not safe to cancel: part of it may be sent.

        Read the output meanwhile: a command whose output nobody takes stops, and reads no input either.
        """
        channel = self._channel
        view = memoryview(data)
        for start in range(0, len(view), STDIN_PIECE):
            channel.send(FrameType.STDIN, view[start : start + STDIN_PIECE])
            if not channel.writable:
                await self._exchange.patiently(channel.drain)

    async def close_stdin(self) -> None:
        """Tell the command that there is no more input. Safe to cancel.

        With an old agent that takes closing our direction: the command cannot be killed over this connection any more.
        """
        if await self._exchange.pool.has(Feature.STDIN_END):
            self._channel.send(FrameType.STDIN)
        else:
            self._channel.send_eof()

    async def kill(self) -> None:
        """Ask for the end of the command: SIGKILL for its group, SIGTERM first on a terminal. `Exit` follows."""
        self._send_kill(ExitReason.KILLED)

    def _send_kill(self, reason: ExitReason) -> None:
        self._kill_reason = reason
        self._channel.send(FrameType.KILL)

    async def _require_features(self) -> None:
        request = self._request
        needs = {
            Feature.EXEC_OPTIONS: request.user or request.detach,
            Feature.PIPED_SESSIONS: request.session and not request.tty,
            Feature.SESSION_SHARING: request.read_only or not request.takeover,
            Feature.SESSION_CURSOR: request.since is not None,
        }
        for feature, needed in needs.items():
            if needed and not await self._exchange.pool.has(feature):
                raise GuestFailure(
                    f"the guest agent at {self._exchange.pool.peer} is too old for {feature}",
                    hint="rebuild the image, so that the sandbox gets a newer agent",
                    code="unsupported",
                )


async def run(exchange: Exchange, request: ExecRequest, stdin: bytes | None, max_output_bytes: int) -> ExecResult:
    """Run a command to its end, keep at most `max_output_bytes` of its output of both kinds together.

    Raises `GuestFailure`, `Unavailable`, `GuestTimeout`. Cancelling kills the command in the guest.
    """
    stream = ExecStream(exchange, request)
    kept: dict[int, bytearray] = {FrameType.STDOUT: bytearray(), FrameType.STDERR: bytearray()}
    room = max_output_bytes
    truncated = False
    left = memoryview(stdin or b"")
    try:
        if stdin is not None and len(stdin) <= STDIN_PIECE and await exchange.pool.has(Feature.STDIN_END):
            # The usual case: everything in one write.
            await stream.open(*([encode(FrameType.STDIN, stdin)] if stdin else []), encode(FrameType.STDIN))
            stdin = None
        else:
            await stream.open()
        channel = stream._channel
        while stream.exit is None:
            while stdin is not None and channel.writable:
                piece, left = left[:STDIN_PIECE], left[STDIN_PIECE:]
                if piece:
                    channel.send(FrameType.STDIN, piece)
                else:
                    await stream.close_stdin()
                    stdin = None
            for kind, payload in await stream.frames(or_writable=stdin is not None):
                if kind not in kept:
                    stream.finish(kind, payload)
                    continue
                truncated = truncated or len(payload) > room
                kept[kind] += payload[:room]
                room = max(0, room - len(payload))
        end = stream.exit
    finally:
        stream.close()
    stdout, stderr = bytes(kept[FrameType.STDOUT]), bytes(kept[FrameType.STDERR])
    return ExecResult(end.code, stdout, stderr, end.reason, truncated, end.signal, end.oom)


async def start_detached(exchange: Exchange, request: ExecRequest) -> Detached:
    """Start a command that nobody waits for."""
    stream = ExecStream(exchange, request)
    answer = b""
    try:
        await stream.open()
        while stream.exit is None:
            for kind, payload in await stream.frames():
                if kind != FrameType.STDOUT:
                    stream.finish(kind, payload)
                elif len(answer := answer + payload) > MAX_DETACHED_BYTES:
                    raise violation(exchange.pool.peer, "what it says of a detached command has no end")
    finally:
        stream.close()
    return exchange.decode(Detached, answer)
