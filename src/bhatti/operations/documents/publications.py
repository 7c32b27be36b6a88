"""Ports that are published."""

import datetime
from typing import Annotated

import msgspec

from bhatti.operations.documents.base import Answer, Port, Request


class PublishRequest(Request, frozen=True, kw_only=True):
    """Which port is to be published, and the name for it: made from the sandbox's if none is given."""

    port: Port
    alias: Annotated[str, msgspec.Meta(min_length=1, max_length=63)] | None = None


class Publication(Answer, frozen=True, kw_only=True):
    """A port that is published. `url` is where, or null while the daemon has no gateway (`gateway.listen`)."""

    id: str
    sandbox_id: str
    sandbox: str
    port: int
    alias: str
    url: str | None
    created_at: datetime.datetime
