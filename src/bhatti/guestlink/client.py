"""The host's end of the wire: everything an agent can be asked, as methods."""

import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypedDict

import anyio.abc

from bhatti.errors import InvalidRequest
from bhatti.guestlink import commands, files
from bhatti.guestlink.commands import ExecResult as ExecResult
from bhatti.guestlink.commands import ExecStream as ExecStream
from bhatti.guestlink.commands import Exit as Exit
from bhatti.guestlink.commands import Stderr as Stderr
from bhatti.guestlink.commands import Stdout as Stdout
from bhatti.guestlink.deadlines import DEADLINES, Deadlines
from bhatti.guestlink.exchange import Exchange
from bhatti.guestlink.failures import violation
from bhatti.guestlink.forward import open_forward
from bhatti.guestlink.pool import ConnectionPool
from bhatti.guestlink.sessions import TerminalStream as TerminalStream
from bhatti.guestlink.transports import Transport
from lohar.wire.frames import FrameType
from lohar.wire.limits import LIMITS
from lohar.wire.messages import (
    ActivityInfo,
    Detached,
    ExecRequest,
    Facts,
    FileInfo,
    FileReadRequest,
    Hello,
    Identity,
    IdentityResponse,
    MessageError,
    Resumed,
    ResumedResponse,
    SessionInfo,
    SessionKill,
    SyncResponse,
    WatchRequest,
    decode_list,
)

DEFAULT_MAX_OUTPUT = 10 << 20
"""Output that `exec` keeps when not told otherwise: what an answer of the API may carry."""


class GuestLink:
    """Talks to one agent.

    Connections are opened when needed and kept; an agent that knows nothing of that (revision 1) is given a new one for
    each request. Every method ends: with an answer, with the agent's refusal (`GuestFailure`, whose `code` says what
    kind), or with `Unavailable` and `GuestTimeout` when the guest is lost or silent; `deadlines` says after how long.

    All belong to one event loop. Methods may be called by many tasks at once.
    """

    def __init__(self, transport: Transport, *, token: str | None = None, deadlines: Deadlines = DEADLINES) -> None:
        self._pool = ConnectionPool(transport, token, deadlines)
        self._exchange = Exchange(self._pool, deadlines)
        self._deadlines = deadlines

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. Commands that run over them are killed, sessions detached. Idempotent, never waits."""
        self._pool.close()

    def drop_connections(self) -> None:
        """Close all connections, those in use too: call it when the guest was resumed, for they lead nowhere.

        Calls that wait on them raise `Unavailable` (code `connection-lost`).
        """
        self._pool.drop()

    async def wait_ready(self, *, timeout_s: float) -> Hello:
        """Ask until the agent answers; return its HELLO. Raises `GuestTimeout` after `timeout_s`. Safe to cancel."""
        return await self._pool.wait_ready(timeout_s)

    async def hello(self) -> Hello:
        """Return what the agent is and can do; an old one is `revision` 1 without features. Safe to cancel."""
        return await self._pool.hello()

    async def exec(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        stdin: bytes | None = None,
        timeout_s: float | None = None,
        max_output_bytes: int = DEFAULT_MAX_OUTPUT,
    ) -> ExecResult:
        """Run a command to its end.

        Without `stdin` it reads from /dev/null. After `timeout_s` it is killed: the result's reason is then `timeout`.
        Output above `max_output_bytes` (both kinds together) is dropped, and `truncated` set. Raises `GuestFailure`
        (codes `command-not-found`, `no-such-file` for `cwd`, `permission-denied`, ...). Cancelling kills the command in
        the guest.
        """
        request = ExecRequest(
            **_command(argv, env, cwd, user),
            timeout_sec=timeout_s or 0.0,
            no_stdin=stdin is None,
            exit_info=True,
            kill_on_eof=True,
        )
        return await commands.run(self._exchange, request, stdin, max_output_bytes)

    def stream(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        timeout_s: float | None = None,
    ) -> ExecStream:
        """Return a command to be run inside `async with`, as a stream of `Stdout`, `Stderr` and `Exit`.

        Leaving the block early, or being cancelled in it, kills the command in the guest.
        """
        return ExecStream(
            self._exchange,
            ExecRequest(
                **_command(argv, env, cwd, user),
                timeout_sec=timeout_s or 0.0,
                exit_info=True,
                kill_on_eof=True,
            ),
        )

    async def detach(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        output_file: str | None = None,
    ) -> Detached:
        """Start a command that nobody waits for; its output goes to a file of the guest. Return its pid and that file.

        Raises `GuestFailure`. Cancelling leaves it open whether the command was started.
        """
        request = ExecRequest(
            **_command(argv, env, cwd, user),
            detach=True,
            output_file=output_file or "",
        )
        return await commands.start_detached(self._exchange, request)

    def session(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        max_idle_s: int = 0,
        ring_bytes: int = 0,
    ) -> TerminalStream:
        """Return a piped session to be started inside `async with`: a command that outlives its connection.

        stdout and stderr stay apart, also when they are replayed by `attach`. For `max_idle_s` and `ring_bytes` see
        `shell`.
        """
        request = ExecRequest(
            **_command(argv, env, cwd, user),
            max_idle_sec=max_idle_s,
            ring_bytes=ring_bytes,
            session=True,
            exit_info=True,
        )
        return TerminalStream(self._exchange, request)

    def shell(
        self,
        argv: Sequence[str],
        *,
        rows: int = 24,
        cols: int = 80,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        max_idle_s: int = 0,
        ring_bytes: int = 0,
    ) -> TerminalStream:
        """Return a session on a terminal, to be started inside `async with`. Leaving the block detaches from it.

        It is killed when nobody was attached for `max_idle_s` seconds (0: never). `ring_bytes` of output are kept for
        who attaches later (0: the agent's default, 64 KiB).
        """
        request = ExecRequest(
            **_command(argv, env, cwd, user),
            max_idle_sec=max_idle_s,
            ring_bytes=ring_bytes,
            tty=True,
            rows=rows,
            cols=cols,
            exit_info=True,
        )
        return TerminalStream(self._exchange, request)

    def attach(
        self, session_id: str, *, since: int | None = None, read_only: bool = False, takeover: bool = True
    ) -> TerminalStream:
        """Return a session to be attached to inside `async with`.

        Output is replayed from the cursor `since` (see `TerminalStream.position`), or all that is kept. Whoever was
        attached is detached, unless `takeover` is false (then `GuestFailure`, code `session-attached`) or `read_only`
        (watch along).
        """
        request = ExecRequest(
            session_id=session_id, since=since, read_only=read_only, takeover=takeover, exit_info=True
        )
        return TerminalStream(self._exchange, request)

    async def sessions(self) -> list[SessionInfo]:
        """List the sessions, exited ones too while they can be attached to. Safe to cancel."""
        payload = await self._exchange.ask(FrameType.EXEC_LIST_REQ, b"", FrameType.EXEC_LIST_RESP)
        try:
            return decode_list(SessionInfo, payload)
        except MessageError as error:
            raise violation(self._pool.peer, f"EXEC_LIST_RESP: {error}") from error

    async def kill_session(self, session_id: str) -> None:
        """Kill a session's process group. Raises `GuestFailure` (code `session-not-found`). Safe to cancel."""
        payload = SessionKill(session_id=session_id).to_json()
        await self._exchange.ask(FrameType.EXEC_KILL, payload, FrameType.EXIT, repeatable=False)

    async def read_file(self, path: str, *, offset: int = 0, limit: int = 0, max_bytes: int = 0) -> bytes:
        """Return a file's content, or with `offset` (1-based) and `limit` some of its lines, at most `max_bytes` bytes.

        Raises `GuestFailure` (codes `no-such-file`, `is-a-directory`, ...). Safe to cancel.
        """
        content = bytearray()
        async with self.open_read(path, offset=offset, limit=limit, max_bytes=max_bytes) as download:
            async for chunk in download.chunks():
                content += chunk
                if 0 < max_bytes < len(content):
                    raise violation(self._pool.peer, f"more than the {max_bytes} bytes that were asked for")
        return bytes(content)

    def open_read(self, path: str, *, offset: int = 0, limit: int = 0, max_bytes: int = 0) -> files.FileDownload:
        """Return a file to be read piece by piece inside `async with`; leaving early stops the agent's reading."""
        request = FileReadRequest(path=path, offset=offset, limit=limit, max_bytes=max_bytes)
        return files.FileDownload(self._exchange, request)

    async def write_file(
        self, path: str, data: bytes | AsyncIterable[bytes], *, size: int | None = None, mode: str = "0644"
    ) -> None:
        """Write a file; who reads it meanwhile sees the old content or the new. Missing directories are made.

        `size` must be given with a stream, and be its true length. `mode` is octal text. Raises `GuestFailure`.
        Cancelling leaves the file as it was, or the new content in place.
        """
        if isinstance(data, bytes):
            await files.write_bytes(self._exchange, path, data, mode)
        elif size is None:
            raise InvalidRequest(
                "the size of a streamed upload must be given",
                hint="give the number of bytes that are to come",
                code="bad-size",
            )
        else:
            await files.write_stream(self._exchange, path, data, size, mode)

    async def stat(self, path: str) -> FileInfo:
        """Describe a file, following links. Raises `GuestFailure`. Safe to cancel."""
        return await files.stat(self._exchange, path)

    async def list_dir(self, path: str) -> list[FileInfo]:
        """List a directory sorted by name, not following links. Raises `GuestFailure` (also code `too-many-entries`).

        Safe to cancel.
        """
        return await files.list_dir(self._exchange, path)

    def watch(self, path: str, *, recursive: bool = False) -> files.Watch:
        """Return a watch that stands inside `async with`, as a stream of `WatchEvents`."""
        return files.Watch(self._exchange, WatchRequest(path=path, recursive=recursive))

    @asynccontextmanager
    async def forward(self, port: int) -> AsyncIterator[anyio.abc.ByteStream]:
        """Connect to a TCP port on the guest's loopback, as a byte stream with half-close.

        Raises `GuestFailure` (code `connection-refused`), `Unavailable`, `GuestTimeout`. Safe to cancel.
        """
        stream = await open_forward(self._pool, port, self._deadlines)
        try:
            yield stream
        finally:
            await stream.aclose()

    async def activity(self) -> ActivityInfo:
        """Return when the guest was last used and how many sessions it has. Safe to cancel."""
        payload = await self._exchange.ask(FrameType.ACTIVITY_REQ, b"", FrameType.ACTIVITY_RESP)
        return self._exchange.decode(ActivityInfo, payload)

    async def facts(self) -> Facts:
        """Return what idleness is judged by. Raises `GuestFailure` (code `unsupported`) with an old agent. Safe to
        cancel."""
        return self._exchange.decode(Facts, await self._exchange.ask(FrameType.FACTS_REQ, b"", FrameType.FACTS_RESP))

    async def identity(self, identity: Identity) -> IdentityResponse:
        """Tell a forked guest who it is; once this returns, all of it is in place, and its token is used from then on.

        The same generation may be given again. Raises `GuestFailure`. Safe to cancel and to repeat.
        """
        payload = await self._exchange.ask(
            FrameType.IDENTITY_REQ, identity.to_json(), FrameType.IDENTITY_RESP, seconds=self._deadlines.stall_s
        )
        if identity.token:
            self._pool.token = identity.token
        return self._exchange.decode(IdentityResponse, payload)

    async def resumed(self, *, generation: int = 0, keep_connections: bool = False) -> ResumedResponse:
        """Tell a restored guest the time, and give it fresh entropy; drop all connections from before.

        A guest that was only paused still has them: `keep_connections`.

        Raises `GuestFailure`, `Unavailable`, `GuestTimeout`. Safe to cancel and to repeat.
        """
        if not keep_connections:
            self.drop_connections()
        # Made last, so that the clock is late by one message and no more.
        resumed = Resumed(
            clock_ns=time.time_ns(),
            entropy=os.urandom(LIMITS.entropy_bytes),
            generation=generation,
            keep_connections=keep_connections,
        )
        payload = await self._exchange.ask(FrameType.RESUMED_REQ, resumed.to_json(), FrameType.RESUMED_RESP)
        return self._exchange.decode(ResumedResponse, payload)

    async def sync(self) -> SyncResponse:
        """Flush the guest's file systems, before a snapshot. Raises `GuestFailure`, `GuestTimeout`. Safe to cancel."""
        payload = await self._exchange.ask(FrameType.SYNC_REQ, b"", FrameType.SYNC_RESP, seconds=self._deadlines.sync_s)
        return self._exchange.decode(SyncResponse, payload)


class _Command(TypedDict):
    """What to run, where and as whom, in the words of `ExecRequest`."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    user: str


def _command(argv: Sequence[str], env: Mapping[str, str] | None, cwd: str | None, user: str | None) -> _Command:
    return {"argv": tuple(argv), "env": dict(env or {}), "cwd": cwd or "", "user": user or ""}
