"""One call of an operation: what came, checked and typed, and how the answer is sent."""

import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

import anyio
import msgspec
from aiohttp import StreamReader, web

from bhatti.errors import InvalidRequest
from bhatti.model.origin import Repeat
from bhatti.model.user import NOBODY, Caller
from bhatti.operations.operation import IDEMPOTENCY_KEY, Operation
from bhatti.server.backend import Backend

T = TypeVar("T")

MAX_JSON_BYTES = 1 << 20
"""The bound of the reference for JSON bodies. Files travel by their own operations, which have none."""

BODY_S = 60.0
"""How long a JSON body may take to come. Expected: no time; over a bad line, the largest takes some seconds."""

JSON_MEDIA = frozenset({"application/json", "application/octet-stream", "application/x-www-form-urlencoded"})
"""What bodies of JSON are said to be: the middle one when nothing is said, the last one by `curl -d`."""

Handler = Callable[["Call"], Awaitable[object]]
"""Returns the answer of an operation, or the whole HTTP response where it streams."""

REQUEST_ID = web.RequestKey("request_id", str)
"""The id under which the log knows a request."""


class Current(NamedTuple):
    """What is being served: the log and the figures name it."""

    request_id: str = ""
    operation: str = ""


NO_REQUEST = Current()

CURRENT: ContextVar[Current] = ContextVar("current", default=NO_REQUEST)
"""Inherited by the orders that a request gives, so that their log lines carry its id."""

EVENT_STREAM = "application/x-ndjson"

SERVER_SENT = "text/event-stream"
"""What browsers call a stream of events."""

KEY = re.compile(r"[\x21-\x7e]{1,200}")

SURROGATE = re.compile("[\ud800-\udfff]")
"""How bytes that are no UTF-8 come from the agent (PEP 383)."""

REFUSED = re.compile(r"q=0(\.0{0,3})?")
"""RFC 9110 section 12.4.2: a weight of nothing."""


class Call:
    """A request as a handler sees it."""

    __slots__ = ("backend", "caller", "operation", "request", "request_id")

    def __init__(
        self,
        operation: Operation[object, object],
        request: web.Request,
        backend: Backend,
        request_id: str,
        caller: Caller = NOBODY,
    ) -> None:
        self.operation = operation
        self.request = request
        self.backend = backend
        self.request_id = request_id
        self.caller = caller

    @property
    def ref(self) -> str:
        """The id of the sandbox that the path names, which is one that the caller may see."""
        return self.request.match_info["id"]

    async def body(self, expected: type[T]) -> T:
        """Return the JSON body as `expected`.

        Raises `InvalidRequest`: `body-too-large`, `body-too-slow`, `wrong-content-type`, `invalid-json` (not JSON at
        all) or `invalid-field` (naming it).
        """
        media = self.request.content_type
        if media not in JSON_MEDIA and not media.endswith("+json"):
            raise InvalidRequest(
                f"the body is said to be {media[:80]!r}",
                hint="send JSON, with `Content-Type: application/json`",
                code="wrong-content-type",
            )
        announced = self.request.content_length
        if announced is not None and announced > MAX_JSON_BYTES:
            raise _too_large()
        content = self.request.content
        raw = content.read_nowait() if content.is_eof() else await self._received(content)  # most come with the head
        if len(raw) > MAX_JSON_BYTES:
            raise _too_large()
        return decoded(raw or b"{}", expected)

    async def _received(self, content: StreamReader) -> bytes:
        raw = bytearray()
        with anyio.move_on_after(BODY_S) as waiting:
            async for chunk in content.iter_any():
                raw += chunk
                if len(raw) > MAX_JSON_BYTES:
                    raise _too_large()
        if waiting.cancelled_caught:
            raise InvalidRequest(
                f"the body has not come within {BODY_S:g} s",
                hint="send it faster, or in smaller parts",
                code="body-too-slow",
            )
        return bytes(raw)

    def query(self, expected: type[T]) -> T:
        """Return the parameters after `?` as `expected`; raises `InvalidRequest` (code `invalid-field`)."""
        given: dict[str, str] = {}
        for name, value in self.request.query.items():
            if name in given:
                raise InvalidRequest(
                    f"the parameter {name!r} is given twice", hint="give it once", code="invalid-field"
                )
            given[name] = value
        try:
            return msgspec.convert(given, expected, strict=False)
        except msgspec.ValidationError as err:
            raise InvalidRequest(
                f"the parameters are not right: {err}",
                hint="docs/api.md and /docs of the daemon say which there are",
                code="invalid-field",
            ) from err

    def repeat(self, request: msgspec.Struct) -> Repeat | None:
        """Return how `request` is known again, if the caller has named a key for that.

        Raises `InvalidRequest` (code `bad-idempotency-key`).
        """
        key = self.request.headers.get(IDEMPOTENCY_KEY)
        if key is None:
            return None
        if not KEY.fullmatch(key):
            raise InvalidRequest(
                f"the header {IDEMPOTENCY_KEY} is no key: {key[:80]!r}",
                hint="use 1 to 200 visible ASCII characters, a UUID for instance",
                code="bad-idempotency-key",
            )
        asked = f"{self.request.path}\n".encode() + msgspec.json.encode(request)
        return Repeat(key=key, digest=hashlib.sha256(asked).hexdigest())

    def wants_events(self) -> bool:
        """Whether the caller accepts a stream of events."""
        return self.accepts(EVENT_STREAM) is not None

    def accepts(self, *offered: str) -> str | None:
        """Return the first type that the caller names among those `offered`.

        `Accept` is a set of types, each perhaps with parameters; one with `q=0` is refused.
        """
        accepted = ",".join(self.request.headers.getall("Accept", []))
        for item in accepted.split(","):
            name, *parameters = (part.strip().lower() for part in item.split(";"))
            if name in offered and not any(REFUSED.fullmatch(p.replace(" ", "")) for p in parameters):
                return name
        return None


def decoded(raw: bytes, expected: type[T]) -> T:
    """Return `raw` JSON as `expected`; raises `InvalidRequest` as `Call.body` does."""
    try:
        return msgspec.json.decode(raw, type=expected)
    except msgspec.ValidationError as err:
        raise InvalidRequest(
            f"the request is not right: {err}",
            hint="docs/api.md and /docs of the daemon say what it has to be",
            code="invalid-field",
        ) from err
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise InvalidRequest(f"invalid json: {err}", hint="send one JSON object", code="invalid-json") from err


def encoded(value: object) -> bytes:
    """Return `value` as JSON. File names of guests may be any bytes: those that are no text come out as U+FFFD."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, separators=(",", ":"))
        return SURROGATE.sub("\ufffd", text).encode()


def json_response(value: object, status: int = 200) -> web.Response:
    """Return `value` as the JSON answer."""
    return web.Response(status=status, body=encoded(value), content_type="application/json")


def _too_large() -> InvalidRequest:
    return InvalidRequest(
        f"invalid json: the body is larger than {MAX_JSON_BYTES} bytes",
        hint="files are written with PUT /sandboxes/:id/files",
        code="body-too-large",
    )
