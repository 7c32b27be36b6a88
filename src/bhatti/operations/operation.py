"""What an operation of the API is."""

import enum
from typing import Generic, TypeVar

import msgspec

from bhatti.errors import BhattiError, InvalidRequest

Req_co = TypeVar("Req_co", covariant=True)
Res_co = TypeVar("Res_co", covariant=True)


IDEMPOTENCY_KEY = "Idempotency-Key"
"""The header with which a caller may repeat what it does not know the outcome of, and have it done once."""


class Scope(enum.StrEnum):
    """Who may call an operation."""

    PUBLIC = "public"  # nobody needs to say who they are
    USER = "user"  # owners, each seeing only what is theirs
    ADMIN = "admin"  # the local administrator


class Streams(enum.StrEnum):
    """What an operation carries beside one JSON document each way."""

    NOTHING = "nothing"
    EVENTS = "events"  # newline-delimited JSON, when the caller accepts `application/x-ndjson`
    DOWNLOAD = "download"  # the answer's body is bytes
    UPLOAD = "upload"  # the request's body is bytes
    SOCKET = "socket"  # a WebSocket
    TUNNEL = "tunnel"  # bytes both ways, after an upgrade to `tcp`
    RELAY = "relay"  # request and answer are somebody else's, passed through


class Operation(msgspec.Struct, Generic[Req_co, Res_co], frozen=True, kw_only=True):
    """One operation. `path` has its parameters in braces; `{rest:.*}` takes the remainder of the path.

    `request` is the JSON body, `query` the parameters after `?`, `result` the JSON answer (or, for `EVENTS`, its
    buffered form, and `event` one line of its stream); an answer that is text instead has its type in `media`.
    `again` is the status instead of `status` where what was asked for is so already.
    `errors` are the classes that a caller should expect beside `InvalidRequest`. `wakes` says that a sleeping sandbox
    is woken for it, `keyed` that the header `Idempotency-Key` counts.
    """

    name: str
    method: str
    path: str
    summary: str
    request: type[Req_co] | None = None
    result: type[Res_co] | None = None
    query: type | None = None
    event: type | None = None
    media: str | None = None
    status: int = 200
    again: int | None = None
    errors: tuple[type[BhattiError], ...] = ()
    scope: Scope = Scope.USER
    wakes: bool = False
    keyed: bool = False
    streams: Streams = Streams.NOTHING

    def target(self, parameters: dict[str, str], query: dict[str, str] | None = None) -> str:
        """Return the request target with `parameters` in the path's braces and `query` behind it, both escaped.

        Raises `InvalidRequest` for an empty parameter or one that the path of a URL cannot carry.
        """
        if not parameters and not query:
            return self.path
        from urllib.parse import quote  # a list has nothing to escape, and need not pay for the import

        path = self.path
        for name, value in parameters.items():
            if name == "rest":
                path = path.replace("{rest:.*}", quote(value, safe="/"))
                continue
            if value in ("", ".", ".."):
                raise InvalidRequest(
                    f"{name} {value!r} is not a name or id",
                    hint="names and ids have letters, digits, `-`, `_` and `.`",
                    code="bad-name",
                )
            path = path.replace("{" + name + "}", quote(value, safe=""))
        if query:
            path += "?" + "&".join(f"{quote(key)}={quote(value)}" for key, value in query.items())
        return path
