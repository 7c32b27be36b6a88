"""WebSockets, as all operations that have one use them."""

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator

import anyio
from aiohttp import WSCloseCode, web

from bhatti.operations import types
from bhatti.server.call import Call
from bhatti.server.failures import ours
from bhatti.server.guest import explained

MAX_MESSAGE_BYTES = 1 << 20
"""One message holds at most what one frame of the guest's wire can carry."""

PING_S = 30.0
"""Proxies on the way cut connections that are silent for about 100 s. No answer is waited for: a reader that is held
up by its own terminal is slow, not dead, and a dead connection is noticed by the kernel."""


GOODBYE_S = 5.0
"""From the daemon's goodbye to the other side's. Expected: at once; but a stopped terminal reads when it likes."""


class OpenSockets:
    """The WebSockets that are open, to tell them when the daemon stops."""

    def __init__(self) -> None:
        self._open: weakref.WeakKeyDictionary[web.WebSocketResponse, asyncio.BaseTransport] = (
            weakref.WeakKeyDictionary()
        )

    def add(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        """Take up the socket of a request; it is forgotten by itself."""
        if request.transport is not None:  # the caller has left already
            self._open[socket] = request.transport

    async def close(self) -> None:
        """Tell everyone that the daemon goes away, and cut off who has not heard it within `GOODBYE_S`."""
        goodbyes = [_part(socket, transport) for socket, transport in self._open.items()]
        await asyncio.gather(*goodbyes, return_exceptions=True)


async def _part(socket: web.WebSocketResponse, transport: asyncio.BaseTransport) -> None:
    with anyio.move_on_after(GOODBYE_S) as patience:
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the daemon is stopping")
    if patience.cancelled_caught:
        # What it has not read yet would keep the connection, and with it the daemon, for as long as it likes.
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


OPEN_SOCKETS = web.AppKey("open_sockets", OpenSockets)


@contextlib.asynccontextmanager
async def accepted(call: Call) -> AsyncIterator[web.WebSocketResponse]:
    """Accept the call as a WebSocket for the block; it is closed at the end, however that comes.

    Raises aiohttp's HTTP errors if the call is no WebSocket handshake.
    """
    socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES + 1, compress=False)
    socket.headers["X-Request-Id"] = call.request_id
    await socket.prepare(call.request)
    call.request.app[OPEN_SOCKETS].add(socket, call.request)
    try:
        yield socket
    finally:
        with anyio.CancelScope(shield=True), contextlib.suppress(ConnectionError):
            await socket.close()


async def keep_alive(socket: web.WebSocketResponse) -> None:
    """Ping now and then, until cancelled."""
    while True:
        await anyio.sleep(PING_S)
        await socket.ping()


async def told(call: Call, error: Exception) -> types.Event:
    """Return the event that says what ended the conversation."""
    if isinstance(error, ConnectionError):  # the caller has left: nobody will hear it
        return types.Event(type="error", error="the caller has left", code="connection-lost")
    return types.Event.of(ours(await explained(call, error), call.request, call.request_id))


async def say(socket: web.WebSocketResponse, text: str) -> None:
    """Send the last words of a conversation, if there is still somebody to hear them."""
    if not socket.closed:
        with contextlib.suppress(ConnectionError):
            await socket.send_str(text)
