"""Watching the daemon."""

import contextlib

import msgspec
from aiohttp import web
from anyio import to_thread

from bhatti.errors import InvalidRequest
from bhatti.operations import table, types
from bhatti.server.call import EVENT_STREAM, SERVER_SENT, Call, Handler
from bhatti.server.events import EventStream, ServerSent
from bhatti.server.failures import ours

MAX_ID = 2**63 - 1


async def events(call: Call) -> list[types.LoggedEvent] | web.StreamResponse:
    """List what happened, or tell it as it happens."""
    query = call.query(types.EventsQuery)
    accepted = call.accepts(EVENT_STREAM, SERVER_SENT)
    if accepted is None and not query.follow:
        return await call.backend.watch.events(query, call.caller)
    if accepted == SERVER_SENT and (last := call.request.headers.get("Last-Event-ID")):
        query = msgspec.structs.replace(query, since=_id(last))
    news = await call.backend.watch.follow_events(query, call.caller)
    stream = _ServerSent(call) if accepted == SERVER_SENT else EventStream[types.NewsEvent](call)
    await stream.begin()
    async with contextlib.aclosing(news):
        try:
            async for event in news:
                await stream.send(event)
        except ConnectionError:  # the reader has left
            raise
        except Exception as err:
            await stream.send(types.NewsEvent.of(ours(err, call.request, call.request_id)))
    return await stream.end()


class _ServerSent(ServerSent[types.NewsEvent]):
    """What happened, under the name of its kind and with its id."""

    def encoded(self, event: types.NewsEvent) -> bytes:
        """Return an event as one message."""
        if event.event is None:
            return super().encoded(event)
        head = f"id: {event.event.id}\nevent: {event.event.kind}\n".encode()
        return head + b"data: " + msgspec.json.encode(event.event) + b"\n\n"


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_ID):
        raise InvalidRequest(
            f"Last-Event-ID {text[:20]!r} is no id of an event",
            hint="leave it out to begin with what happens now",
            code="invalid-field",
        )
    return int(text)


async def metrics(call: Call) -> web.Response:
    """Tell all figures."""
    return _text(await call.backend.watch.metrics(), table.METRICS.media)


async def backup(call: Call) -> web.StreamResponse:
    """Send a copy of the store."""
    async with call.backend.watch.backup() as pieces:
        response = web.StreamResponse(headers={"Cache-Control": "no-store"})
        response.content_type = "application/octet-stream"
        await response.prepare(call.request)
        async for piece in pieces:
            await response.write(piece)
    await response.write_eof()
    return response


async def openapi(call: Call) -> web.Response:
    """Describe the API for programs."""
    return web.Response(body=await _described(call, "json"), content_type="application/json")


async def page(call: Call) -> web.Response:
    """Describe the API for people."""
    response = _text(await _described(call, "html"), table.PAGE.media)
    # Nothing is loaded from anywhere, and nothing that a description could smuggle in would run.
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    return response


async def _described(call: Call, form: str) -> bytes:
    from bhatti.operations import described  # few ask for it; it takes memory and 20 ms

    return await to_thread.run_sync(described.rendered, call.backend.version().version, form)


def _text(body: bytes, media: str | None) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": media or "text/plain"})


HANDLERS: dict[str, Handler] = {
    table.EVENT_LIST.name: events,
    table.METRICS.name: metrics,
    table.BACKUP.name: backup,
    table.OPENAPI.name: openapi,
    table.PAGE.name: page,
}
