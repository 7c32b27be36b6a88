"""A connection taken out of HTTP's hands, once both sides have agreed to speak something else on it."""

import asyncio
import contextlib
from collections import deque

import anyio
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from anyio.abc import ByteStream

from bhatti.taskgroups import together

HIGH_WATER_BYTES = 256 << 10
"""What may wait here to be taken before the other side is held; about what a socket buffer holds."""

RECEIVE_BYTES = 64 << 10
"""What the agent sends at once."""


class Hijacked(web.StreamResponse):
    """The response of a request whose connection was taken over: there is nothing left for HTTP to send."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    @property
    def prepared(self) -> bool:
        """Always: the head has been sent by whoever took the connection over."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Do nothing."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing."""


class Connection(asyncio.Protocol):
    """The client's end of a hijacked connection: `receive`, `send`, `send_eof`. One task per direction."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._before = transport.get_protocol()
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._ended = False
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    def take(cls, request: web.Request) -> "Connection":
        """Take the request's connection over; its handler returns `Hijacked` in the end."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        connection = cls(transport)
        transport.set_protocol(connection)
        return connection

    async def receive(self) -> bytes:
        """Return the next bytes from the client, none at the end. Safe to cancel."""
        while not self._pieces and not self._ended:
            self._news.clear()
            await self._news.wait()
        if not self._pieces:
            return b""
        data = self._pieces.popleft()
        if self._waiting_bytes > HIGH_WATER_BYTES >= self._waiting_bytes - len(data):
            self._transport.resume_reading()
        self._waiting_bytes -= len(data)
        return data

    async def send(self, data: bytes) -> None:
        """Send bytes to the client; waits while it does not read."""
        self._transport.write(data)
        await self._writable.wait()

    def send_eof(self) -> None:
        """Say that nothing more comes; what the client says is still heard."""
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        """End the connection at once, so that the client sees that something failed."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._waiting_bytes <= HIGH_WATER_BYTES < self._waiting_bytes + len(data):
            self._transport.pause_reading()
        self._pieces.append(data)
        self._waiting_bytes += len(data)
        self._news.set()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`; the connection stays open for what we still have to say."""
        self._ended = True
        self._news.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`; the protocol that had the connection before hears of it, to clean up."""
        self._ended = True
        self._news.set()
        self._writable.set()
        self._before.connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable.set()


async def carried(connection: Connection, stream: ByteStream) -> None:
    """Carry bytes both ways until both sides have ended; the end of each direction is passed on by itself.

    Never raises for what the two do: a guest that breaks off in the middle is a connection that breaks off. So is one
    that this is cancelled in the middle of.
    """
    try:
        async with together() as tasks:
            tasks.start_soon(_outward, connection, stream)
            await _inward(connection, stream)
    except BaseException:
        connection.abort()
        raise


async def _inward(connection: Connection, stream: ByteStream) -> None:
    # A guest that takes no more may have something to say yet: the other direction ends when that does.
    with contextlib.suppress(anyio.BrokenResourceError):
        while data := await connection.receive():
            await stream.send(data)
        await stream.send_eof()


async def _outward(connection: Connection, stream: ByteStream) -> None:
    try:
        while True:
            await connection.send(await stream.receive(RECEIVE_BYTES))
    except anyio.EndOfStream:
        connection.send_eof()
    except anyio.BrokenResourceError:
        connection.abort()
