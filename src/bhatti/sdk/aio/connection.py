"""A connection to the daemon for asyncio: `bhatti.http1` over a socket of the standard library.

Bare sockets instead of asyncio's streams: one that is closed is closed at once, from wherever, which is what ends a
cancelled command; and a connection that is kept belongs to no event loop.
"""

import asyncio
import json
import socket
from collections.abc import Iterable

from bhatti.http1 import Head, ProtocolViolation, ResponseParser
from bhatti.sdk.connection import CONNECT_TIMEOUT_S, RECEIVE_BYTES, Kept, head_of, lost, set_options, unheard
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.execution import told
from bhatti.sdk.websocket import handshake

FULL_BACKLOG_PAUSE_S = 0.01
"""Until a daemon that is called by very many at once is asked again. Expected: it takes thousands in a second."""

FAILURES = (OSError, EOFError, ProtocolViolation)


class Response:
    """An answer: its head, and its body as it comes. Read it to the end before the next request."""

    def __init__(self, connection: "Connection", parser: ResponseParser, first: list[bytes]) -> None:
        assert parser.head is not None
        self.head: Head = parser.head
        self._connection = connection
        self._parser = parser
        self._first = first

    async def more(self) -> list[bytes] | None:
        """Wait for more of the body and return the pieces in it, None at its end.

        Raises `Unavailable` if it breaks off. Cancelled, it has taken nothing.
        """
        if self._first:
            first, self._first = self._first, []
            return first
        if self._parser.done:
            self._connection.finished(self._parser)
            return None
        return await self._connection.receive_into(self._parser)

    async def read(self) -> bytes:
        """Return the whole body."""
        parts: list[bytes] = []
        while (pieces := await self.more()) is not None:
            parts += pieces
        return b"".join(parts)


class Connection(Kept):
    """One connection, kept open between requests and opened again when the daemon has closed it meanwhile.

    One task at a time; after a cancelled call, close it: that is what tells the daemon to end what it was doing.
    """

    async def request(
        self, method: str, target: str, *, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
    ) -> Response:
        """Send a request and return the answer, once its head is here.

        Raises `Unavailable`, and sends again, as `sdk.connection.Connection.request` does.
        """
        head = head_of(self.endpoint, method, target, headers, body)
        reused = self._socket is not None
        try:
            return await self._exchange(method, head, body)
        except FAILURES as err:
            self.close()
            if reused and unheard(body, err):
                return await self.request(method, target, headers=headers)
            raise lost(self.endpoint, err) from err

    async def upgrade(self, target: str, headers: Iterable[tuple[str, str]]) -> tuple[socket.socket, bytes] | Response:
        """Ask for another protocol on this connection.

        Returns the socket, which the caller owns from then on, and the bytes that came already; or the daemon's answer
        if it declines.
        """
        response = await self.request("GET", target, headers=[("Connection", "Upgrade"), *headers])
        if response.head.status != 101:
            return response
        return self.handed_over(response._parser)

    async def receive_into(self, parser: ResponseParser) -> list[bytes]:
        """Wait for bytes and return the pieces of body in them; raises `Unavailable` if the connection ends early."""
        try:
            return await self._receive(parser)
        except FAILURES as err:
            self.close()
            raise lost(self.endpoint, err) from err

    async def _exchange(self, method: str, head: bytes, body: bytes | None) -> Response:
        sock = await self._opened()
        await asyncio.get_running_loop().sock_sendall(sock, head + (body or b""))
        parser = ResponseParser(method)
        first: list[bytes] = []
        while parser.head is None:
            first += await self._receive(parser)
        response = Response(self, parser, first)
        if parser.done and parser.head.status != 101:
            self.finished(parser)
        return response

    async def _receive(self, parser: ResponseParser) -> list[bytes]:
        assert self._socket is not None
        data = await asyncio.get_running_loop().sock_recv(self._socket, RECEIVE_BYTES)
        if data:
            return list(parser.feed(data))
        if parser.head is None:
            raise EOFError("the daemon closed the connection without an answer")
        parser.feed_eof()
        return []

    async def _opened(self) -> socket.socket:
        self.close_stale()
        if self._socket is None:
            self._socket = await (_on_path(self.endpoint.path) if self.endpoint.path else _on_tcp(self.endpoint))
        return self._socket


async def conversation(endpoint: Endpoint, target: str) -> tuple[socket.socket, bytes]:
    """Begin a WebSocket conversation, as `sdk.execution.conversation` does."""
    connection = Connection(endpoint)
    try:
        answer = await connection.upgrade(target, handshake())
        if isinstance(answer, tuple):
            return answer
        raise told(json.loads(await answer.read()))
    finally:
        connection.close()


async def _on_path(path: str) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    opened.setblocking(False)
    try:
        while True:
            try:
                opened.connect(path)
            except BlockingIOError:
                # Not "in progress", as on TCP: the backlog is full, and nobody will say when it is not (unix(7)).
                await asyncio.sleep(FULL_BACKLOG_PAUSE_S)
            else:
                return opened
    except BaseException:
        opened.close()
        raise


async def _on_tcp(endpoint: Endpoint) -> socket.socket:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        failure = OSError(f"{endpoint.host} has no address")
        for family, kind, protocol, _, address in await loop.getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM
        ):
            opened = socket.socket(family, kind, protocol)
            opened.setblocking(False)
            try:
                await loop.sock_connect(opened, address)
            except OSError as err:
                opened.close()
                failure = err
            except BaseException:
                opened.close()
                raise
            else:
                set_options(opened)
                return opened
        raise failure
