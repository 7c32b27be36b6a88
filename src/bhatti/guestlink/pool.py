"""The connections to one agent: kept alive and used again if it can, one for each request if it cannot."""

import asyncio
import socket
import time

import anyio

from bhatti.errors import Unavailable
from bhatti.guestlink.channel import Channel, ReceiveBuffer
from bhatti.guestlink.deadlines import Deadlines
from bhatti.guestlink.failures import guest_failure, silent, unreachable, violation
from bhatti.guestlink.transports import Transport
from lohar.wire.frames import CONTROL_PORT, FORWARD_PORT, FrameType, encode, is_unexpected
from lohar.wire.messages import Feature, Hello, HelloRequest, MessageError

MAX_IDLE = 8
"""Connections kept when nobody uses them: what a few parallel callers need, and 8 descriptors for each sandbox."""

READY_ATTEMPTS_S = (0.1, 0.25, 0.5, 2.0)
"""How long `wait_ready` gives each attempt; the last is repeated. A SYN to a guest that does not listen yet may be
lost, and the kernel repeats it after a second only: asking anew is faster."""

READY_GAP_S = 0.01
"""Between two attempts that were refused at once."""

CLIENT = "bhatti"

OLD_AGENT = Hello(agent="", revision=1, features=())
"""What we take an agent to be that does not know HELLO."""


class ConnectionPool:
    """Hands out connections, authenticated, and takes them back."""

    def __init__(self, transport: Transport, token: str | None, deadlines: Deadlines) -> None:
        self.token = token
        self._transport = transport
        self._deadlines = deadlines
        self._buffer = ReceiveBuffer()
        self._idle: list[Channel] = []
        self._busy: set[Channel] = set()
        self._hello: Hello | None = None
        self._negotiating = anyio.Lock()
        self._closed = False

    @property
    def peer(self) -> str:
        """Name the agent for error messages."""
        return str(self._transport)

    @property
    def idle(self) -> int:
        """Connections that wait for the next request."""
        return len(self._idle)

    def deadline(self, seconds: float) -> float:
        """Return the loop's time in `seconds` from now."""
        return asyncio.get_running_loop().time() + seconds

    async def hello(self) -> Hello:
        """Return what the agent says of itself; it is asked once. Raises like `acquire`. Safe to cancel."""
        if self._hello is None:
            async with self._negotiating:
                if self._hello is None:
                    await self._negotiate(self._deadlines.connect_s, self._deadlines.reply_s)
        assert self._hello is not None
        return self._hello

    async def has(self, feature: Feature) -> bool:
        """Tell whether the agent has the feature. Raises like `acquire`. Safe to cancel."""
        hello = self._hello or await self.hello()
        return feature in hello.features

    async def acquire(self, *, fresh: bool = False) -> Channel:
        """Return a connection for one request; give it back with `release`, or close it.

        `fresh` asks for a new one. Raises `Unavailable` when the agent cannot be reached, `GuestTimeout` when it does
        not answer, `GuestFailure` when it refuses the token. Safe to cancel.
        """
        hello = self._hello or await self.hello()
        if not fresh and Feature.KEEP_ALIVE in hello.features:
            while self._idle:
                channel = self._idle.pop()
                if channel.usable:
                    channel.reused, channel.answered = True, False
                    self._busy.add(channel)
                    return channel
                channel.close()
        channel = await self._open(self._deadlines.connect_s)
        self._busy.add(channel)
        return channel

    def release(self, channel: Channel) -> None:
        """Take a connection back after its request was completed; it is kept if it can serve again."""
        known = channel in self._busy  # not since dropped
        self._busy.discard(channel)
        kept_alive = self._hello is not None and Feature.KEEP_ALIVE in self._hello.features
        if known and kept_alive and channel.usable and len(self._idle) < MAX_IDLE:
            self._idle.append(channel)
        else:
            channel.close()

    def discard(self, channel: Channel) -> None:
        """Close a connection whose request was not completed. Nothing happens to one that was given back already."""
        if channel in self._busy:
            self._busy.discard(channel)
            channel.close()

    def close(self) -> None:
        """Close everything for good."""
        self._closed = True
        self.drop()

    def drop(self) -> None:
        """Close all connections, those in use too: after a resume of the guest they lead nowhere."""
        for channel in (*self._idle, *self._busy):
            channel.close()
        self._idle.clear()
        self._busy.clear()

    async def wait_ready(self, timeout_s: float) -> Hello:
        """Ask until the agent answers; return its HELLO. Raises `GuestTimeout` after `timeout_s`. Safe to cancel.

        A refused token ends the waiting (`GuestFailure`): that agent answers, and will not change its mind.
        """
        end = time.monotonic() + timeout_s
        attempt = 0
        while True:
            left = end - time.monotonic()
            patience_s = max(0.001, min(left, READY_ATTEMPTS_S[min(attempt, len(READY_ATTEMPTS_S) - 1)]))
            try:
                async with self._negotiating:
                    return await self._negotiate(patience_s, patience_s)
            except Unavailable as error:
                attempt += 1
                if time.monotonic() + READY_GAP_S >= end:
                    raise silent(self.peer, f"not ready ({error.message})", timeout_s) from error
                await asyncio.sleep(READY_GAP_S)

    async def connect_forward(self) -> tuple[socket.socket, bytes]:
        """Return a new connection to the forward port and the AUTH frame to begin with, empty without token.

        Raises `Unavailable`, `GuestTimeout`. Safe to cancel.
        """
        return await self._connect(FORWARD_PORT, self._deadlines.connect_s), self._authentication()

    async def _negotiate(self, connect_s: float, reply_s: float) -> Hello:
        """Ask for HELLO on a new connection, and keep both."""
        channel = await self._open(connect_s)
        self._busy.add(channel)  # so that `drop` and `close` find it
        try:
            channel.send(FrameType.HELLO_REQ, HelloRequest(client=CLIENT).to_json())
            kind, payload = (await channel.receive(self.deadline(reply_s)))[0]
            self._hello = self._understand(kind, payload)
        except BaseException:
            self.discard(channel)
            raise
        self.release(channel)
        return self._hello

    def _understand(self, kind: int, payload: bytes) -> Hello:
        if kind == FrameType.HELLO_RESP:
            try:
                return Hello.from_json(payload)
            except MessageError as error:
                raise violation(self.peer, f"HELLO: {error}") from error
        if kind == FrameType.ERROR:
            text = payload.decode("utf-8", "replace")
            if is_unexpected(text, FrameType.HELLO_REQ):
                return OLD_AGENT
            raise guest_failure(text)
        raise violation(self.peer, f"HELLO was answered with frame type 0x{kind:02x}")

    async def _open(self, patience_s: float) -> Channel:
        sock = await self._connect(CONTROL_PORT, patience_s)
        return Channel(sock, self.peer, self._buffer, prefix=self._authentication())

    async def _connect(self, port: int, patience_s: float) -> socket.socket:
        self._check_open()
        try:
            async with asyncio.timeout(patience_s):
                sock = await self._transport.connect(port)
        except TimeoutError as error:
            raise silent(self.peer, "no connection", patience_s) from error
        try:
            self._check_open()
        except Unavailable:  # closed meanwhile: nobody else would ever close this one
            sock.close()
            raise
        return sock

    def _check_open(self) -> None:
        if self._closed:
            raise unreachable(self.peer, "the link was closed")

    def _authentication(self) -> bytes:
        return b"" if self.token is None else encode(FrameType.AUTH, self.token.encode())
