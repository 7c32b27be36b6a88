"""What happens, for those who look and those who watch.

A live reader is a cursor into the store, not a queue: whoever reads slowly costs nothing, holds nobody up, and is told
when it has fallen so far behind that events were skipped.
"""

from collections.abc import AsyncGenerator

import anyio

from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.orders import stopping
from bhatti.errors import NotFound
from bhatti.model.user import ADMIN, Caller
from bhatti.operations import types
from bhatti.store.events import Event, Wanted
from bhatti.store.journal import Journal

BATCH = 200
"""Events in memory at once, per reader."""

MAX_BEHIND = 10_000
"""A reader that is further behind has other troubles than completeness; it can list what was skipped."""

ALIVE_S = 15.0
"""Often enough that neither side's proxies think the connection dead."""


class Feed:
    """The events of the journal, as the API tells them."""

    def __init__(self, journal: Journal, *, max_behind: int = MAX_BEHIND, alive_s: float = ALIVE_S) -> None:
        self._journal = journal
        self._max_behind = max_behind
        self._alive_s = alive_s
        self._closed = False

    def close(self) -> None:
        """End all streams, with the words that the daemon is stopping."""
        self._closed = True
        self._journal.tell()

    async def list(self, query: types.EventsQuery, wanted: Wanted) -> list[types.LoggedEvent]:
        """Return what the query asks for, the oldest first. Safe to cancel."""
        if query.since is None:
            found = await self._journal.events(query.limit, wanted)
        else:
            found = await self._journal.events_after(query.since, query.limit, wanted)
        return [answer(event) for event in found]

    async def follow(self, since: int | None, wanted: Wanted) -> AsyncGenerator[types.NewsEvent, None]:
        """Yield what happened after the event `since`, and then what happens; without `since`, the latter alone.

        Ends by raising `Unavailable` (code `stopping`). Safe to cancel.
        """
        cursor = await self._journal.last_event() if since is None else since
        while not self._closed:
            written = self._journal.written  # taken before looking: what comes meanwhile is not overlooked
            batch = await self._journal.events_batch(cursor, BATCH, self._max_behind, wanted)
            if batch.skipped:
                first = batch.events[0].id if batch.events else batch.cursor + 1
                yield types.NewsEvent(type="missed", until=first - 1)
            for event in batch.events:
                yield types.NewsEvent(type="event", event=answer(event))
            cursor = batch.cursor
            if batch.full or self._closed:
                continue
            with anyio.move_on_after(self._alive_s) as waiting:
                await written.wait()
            if waiting.cancelled_caught:
                yield types.NewsEvent(type="alive")
        raise stopping()


def wanted_by(query: types.EventsQuery, catalogue: Catalogue, caller: Caller = ADMIN) -> Wanted:
    """Return which events a query wants that the caller may see; a name that no sandbox has now may be one that a
    sandbox had."""
    owner = None if caller.admin else caller.owner
    if query.sandbox is None:
        return Wanted(owner=owner)
    try:
        return Wanted(sandbox=catalogue.find(query.sandbox, caller).id, owner=owner)
    except NotFound:
        return Wanted(sandbox=query.sandbox, owner=owner)


def answer(event: Event) -> types.LoggedEvent:
    """Return an event in the words of the API."""
    return types.LoggedEvent(
        id=event.id,
        at=event.at,
        kind=event.kind,
        sandbox_id=event.sandbox_id,
        sandbox=event.sandbox,
        detail=event.detail,
    )
