"""What all requests, answers and events have in common."""

from typing import Annotated, Self

import msgspec

from bhatti.errors import BhattiError

Seconds = float
Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all requests."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the lines of a stream: what it is in `type`; when that is `error`, the words of an error answer."""

    type: str
    error: str | None = None
    code: str | None = None
    hint: str | None = None
    kind: str | None = None

    @classmethod
    def of(cls, error: BhattiError) -> Self:
        """Return the event that says `error`."""
        body = error.body()
        return cls(type="error", error=body.error, code=body.code, hint=body.hint, kind=body.kind)
