"""Streams of events: one JSON document a line, sent as it happens."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from aiohttp import web

from bhatti.operations.types import Event
from bhatti.server.call import EVENT_STREAM, SERVER_SENT, Call, encoded
from bhatti.server.failures import ours
from bhatti.taskgroups import together

E = TypeVar("E", bound=Event)
E_contra = TypeVar("E_contra", bound=Event, contravariant=True)

WAITING = 256
"""Steps of some work that may wait for a slow reader; beyond, the middle ones are left out: only the latest matters."""


class EventStream(Generic[E_contra]):
    """An answer that is a stream. `begin` sends the head; errors after it can only be events."""

    media = EVENT_STREAM

    def __init__(self, call: Call) -> None:
        self._call = call
        self.response = web.StreamResponse(
            headers={
                "Content-Type": self.media,
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
                "X-Request-Id": call.request_id,
            }
        )

    async def begin(self) -> None:
        """Send the head of the answer."""
        await self.response.prepare(self._call.request)

    async def send(self, event: E_contra) -> None:
        """Send one event; waits while the caller does not read."""
        await self.response.write(self.encoded(event))

    def encoded(self, event: E_contra) -> bytes:
        """Return an event as it goes out."""
        return encoded(event) + b"\n"

    async def end(self) -> web.StreamResponse:
        """Close the stream and return the response for the handler to return."""
        await self.response.write_eof()
        return self.response


class ServerSent(EventStream[E_contra]):
    """The stream as browsers read it (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

    media = SERVER_SENT

    def encoded(self, event: E_contra) -> bytes:
        """Return an event as one message; being alive is a comment."""
        if event.type == "alive":
            return b": alive\n\n"
        return f"event: {event.type}\n".encode() + b"data: " + encoded(event) + b"\n\n"


async def streamed(
    call: Call, kind: type[E], work: Callable[[Callable[[E], None]], Awaitable[E]]
) -> web.StreamResponse:
    """Answer with the events of some work: those that it hands to its argument, and at last the one that it returns.

    What it raises is the last event instead. Its argument never waits and never raises.
    """
    stream = EventStream[E](call)
    await stream.begin()
    steps_in, steps = anyio.create_memory_object_stream[E](WAITING)

    async def tell() -> None:
        async with steps:
            async for step in steps:
                await stream.send(step)

    def on_step(event: E) -> None:
        now = steps_in.statistics()
        # Work that others wait for as well goes on when this reader has left.
        if now.open_send_streams and now.open_receive_streams and now.current_buffer_used < WAITING:
            steps_in.send_nowait(event)

    async with together() as tasks, steps_in:
        tasks.start_soon(tell)
        try:
            last = await work(on_step)
        except Exception as err:
            last = kind.of(ours(err, call.request, call.request_id))
    await stream.send(last)
    return await stream.end()
