"""WebSockets, as all operations that have one use them."""

import asyncio
import contextlib
import logging
import weakref
from collections.abc import AsyncIterator

import anyio
from aiohttp import WSCloseCode, web

from bhatti.errors import BhattiError
from bhatti.operations import types
from bhatti.server.call import Call
from bhatti.server.guest import explained

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 1 << 20
"""One message holds at most what one frame of the guest's wire can carry."""

PING_S = 30.0
"""Proxies on the way cut connections that are silent for about 100 s. No answer is waited for: a reader that is held
up by its own terminal is slow, not dead, and a dead connection is noticed by the kernel."""


class OpenSockets:
    """The WebSockets that are open, to tell them when the daemon stops."""

    def __init__(self) -> None:
        self._open: weakref.WeakSet[web.WebSocketResponse] = weakref.WeakSet()

    def add(self, socket: web.WebSocketResponse) -> None:
        """Take up a socket; it is forgotten by itself."""
        self._open.add(socket)

    async def close(self) -> None:
        """Tell everyone that the daemon goes away."""
        word = b"the daemon is stopping"
        goodbyes = [socket.close(code=WSCloseCode.GOING_AWAY, message=word) for socket in self._open]
        await asyncio.gather(*goodbyes, return_exceptions=True)


OPEN_SOCKETS = web.AppKey("open_sockets", OpenSockets)


@contextlib.asynccontextmanager
async def accepted(call: Call) -> AsyncIterator[web.WebSocketResponse]:
    """Accept the call as a WebSocket for the block; it is closed at the end, however that comes.

    Raises aiohttp's HTTP errors if the call is no WebSocket handshake.
    """
    socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES + 1, compress=False)
    socket.headers["X-Request-Id"] = call.request_id
    await socket.prepare(call.request)
    call.request.app[OPEN_SOCKETS].add(socket)
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
    """Return the event that says what ended the conversation; what is a defect of ours goes to the log in full."""
    told = error if isinstance(error, ConnectionError) else await explained(call, error)
    if isinstance(told, BhattiError):
        return types.Event.of(told)
    if not isinstance(told, ConnectionError):
        log.error("defect in %s", call.request.path, exc_info=told, extra={"request_id": call.request_id})
    return types.Event(type="error", error="internal error", code="internal", hint=f"request id {call.request_id}")


async def say(socket: web.WebSocketResponse, text: str) -> None:
    """Send the last words of a conversation, if there is still somebody to hear them."""
    if not socket.closed:
        with contextlib.suppress(ConnectionError):
            await socket.send_str(text)
