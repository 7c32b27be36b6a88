"""Streams of events: one JSON document a line, sent as it happens."""

from typing import Generic, TypeVar

from aiohttp import web

from bhatti.operations.types import Event
from bhatti.server.call import EVENT_STREAM, SERVER_SENT, Call, encoded

E_contra = TypeVar("E_contra", bound=Event, contravariant=True)


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
