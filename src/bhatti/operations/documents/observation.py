"""What happens in the daemon, for those who watch."""

import datetime
from typing import Annotated, Literal

import msgspec

from bhatti.operations.documents.base import Answer, Event, Request

MAX_EVENTS = 1000


class EventsQuery(Request, frozen=True, kw_only=True):
    """Which events: those after the one with the id `since`, of one `sandbox` (id or name), at most `limit` of them.

    Without `since`, the latest. With `follow` the answer goes on with what happens from then on.
    """

    since: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    sandbox: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_EVENTS)] = 100
    follow: bool = False


class LoggedEvent(Answer, frozen=True, kw_only=True):
    """Something that happened. Later events have larger ids; `sandbox` is the name that it had then."""

    id: int
    at: datetime.datetime
    kind: str
    sandbox_id: str | None = None
    sandbox: str | None = None
    detail: str = ""


class NewsEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the live stream: `event` with what happened, or `alive` when nothing has for some seconds.

    `missed` tells a reader who was too slow that the events up to the id `until` were left out; those that are still
    kept can be listed. `error` ends the stream.
    """

    type: Literal["event", "alive", "missed", "error"]
    event: LoggedEvent | None = None
    until: int | None = None
