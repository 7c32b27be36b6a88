"""Watching the daemon: what happened, how it does, what it offers, and a copy of what it knows."""

from typing import Any

from bhatti.errors import NotFound, OutOfSpace, Unavailable
from bhatti.operations import types
from bhatti.operations.operation import Operation, Scope, Streams

EVENT_LIST: Operation[None, list[types.LoggedEvent]] = Operation(
    name="event.list",
    method="GET",
    path="/events",
    summary=(
        "List what happened to the sandboxes and images, the oldest first, for as long as it is kept: "
        "90 days, the last thousand for ever. With "
        "`follow`, or for callers who accept `application/x-ndjson` or `text/event-stream` (whose `Last-Event-ID` "
        "is `since`), the answer is a stream that goes on with what happens from then on."
    ),
    query=types.EventsQuery,
    result=list[types.LoggedEvent],
    event=types.NewsEvent,
    errors=(NotFound, Unavailable),
    streams=Streams.EVENTS,
)
METRICS: Operation[None, None] = Operation(
    name="metrics",
    method="GET",
    path="/metrics",
    summary="Tell figures about requests, engine, sandboxes and the daemon's process, as Prometheus reads them.",
    media="text/plain; version=0.0.4; charset=utf-8",
    errors=(Unavailable,),
    scope=Scope.ADMIN,
)
BACKUP: Operation[None, None] = Operation(
    name="backup",
    method="GET",
    path="/backup",
    summary=(
        "Send a copy of the store as it is at one moment, while the daemon goes on. It holds the sandboxes' tokens: "
        "keep it as you keep keys. Disks and memory of the sandboxes are not in it."
    ),
    errors=(OutOfSpace, Unavailable),
    scope=Scope.ADMIN,
    streams=Streams.DOWNLOAD,
)
OPENAPI: Operation[None, dict[str, Any]] = Operation(
    name="openapi",
    method="GET",
    path="/openapi.json",
    summary="Describe this API, as an OpenAPI 3.1 document.",
    result=dict[str, Any],
    scope=Scope.PUBLIC,
)
PAGE: Operation[None, None] = Operation(
    name="docs",
    method="GET",
    path="/docs",
    summary="Describe this API, as a page for people.",
    media="text/html; charset=utf-8",
    scope=Scope.PUBLIC,
)

OPERATIONS: tuple[Operation[object, object], ...] = (
    EVENT_LIST,
    METRICS,
    BACKUP,
    OPENAPI,
    PAGE,
)
