import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from bhatti.server.relay import HIGH_WATER_BYTES, Connection, Hijacked

pytestmark = pytest.mark.anyio


class Before(asyncio.Protocol):
    """The protocol that had the connection before."""

    lost = 0

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += 1


@dataclass
class Pair:
    connection: Connection
    before: Before
    transport: asyncio.Transport
    peer: socket.socket


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    loop = asyncio.get_running_loop()
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    transport, before = await loop.create_connection(Before, sock=ours)
    connection = Connection(transport)
    transport.set_protocol(connection)
    yield Pair(connection, before, transport, peer)
    transport.close()
    peer.close()


async def test_bytes_go_both_ways(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(pair.peer, b"ping")
    assert await pair.connection.receive() == b"ping"
    await pair.connection.send(b"pong")
    assert await loop.sock_recv(pair.peer, 10) == b"pong"


async def test_each_end_is_passed_on_by_itself(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    pair.peer.shutdown(socket.SHUT_WR)
    assert await pair.connection.receive() == b""
    await pair.connection.send(b"still here")
    pair.connection.send_eof()
    assert await loop.sock_recv(pair.peer, 100) == b"still here"
    assert await loop.sock_recv(pair.peer, 100) == b""


async def test_a_sender_is_held_while_nobody_takes(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    sender = loop.create_task(loop.sock_sendall(pair.peer, b"x" * 8 * HIGH_WATER_BYTES))
    first = await pair.connection.receive()
    for _ in range(50):
        await asyncio.sleep(0)
    assert pair.connection._waiting_bytes <= 3 * HIGH_WATER_BYTES
    assert not sender.done()
    taken = len(first)
    while taken < 8 * HIGH_WATER_BYTES:
        taken += len(await pair.connection.receive())
    await sender


async def test_we_are_held_while_the_peer_does_not_take(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    size = 4 << 20
    sender = loop.create_task(pair.connection.send(b"x" * size))
    await asyncio.sleep(0)
    assert not sender.done()
    taken = 0
    while taken < size:
        taken += len(await loop.sock_recv(pair.peer, 1 << 20))
    await sender


async def test_the_protocol_before_hears_of_the_end(pair: Pair) -> None:
    pair.transport.abort()
    assert await pair.connection.receive() == b""
    assert pair.before.lost == 1
    pair.connection.send_eof()  # to nobody: no error


async def test_a_connection_that_has_gone_cannot_be_taken() -> None:
    request = make_mocked_request("GET", "/")
    request.protocol.transport = None
    with pytest.raises(ConnectionResetError):
        Connection.take(request)


async def test_a_hijacked_response_sends_nothing_more() -> None:
    response = Hijacked()
    assert response.prepared
    assert response.keep_alive is False
    assert await response.prepare(make_mocked_request("GET", "/")) is None
    await response.write_eof()
    assert isinstance(response, web.StreamResponse)
