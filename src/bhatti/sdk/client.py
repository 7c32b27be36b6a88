"""Calls of the API from the table of operations: one method each for what an operation carries."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import msgspec

from bhatti.errors import BhattiError, ErrorBody, Unavailable, from_body
from bhatti.operations.operation import Operation
from bhatti.operations.types import Event
from bhatti.sdk.connection import Connection, Response
from bhatti.sdk.endpoint import Endpoint

Req = TypeVar("Req")
Res = TypeVar("Res")
Ev = TypeVar("Ev", bound=Event)

JSON = ("Content-Type", "application/json")
EVENTS = ("Accept", "application/x-ndjson")


class EventReader(Generic[Ev]):
    """Events out of the body of an answer."""

    def __init__(self, event: type[Ev]) -> None:
        self._event = event
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[Ev]:
        """Take a piece and yield the events that it completes; one of type `error` is raised as that error."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            said = decoded(line, self._event)
            if said.type == "error":
                raise from_body(0, ErrorBody(said.error or "", said.code or "internal", said.hint, None, said.kind))
            yield said


class Client:
    """A caller of one daemon, over one connection that is kept open: use `with`, or `close`. One thread at a time."""

    def __init__(self, endpoint: Endpoint, *, timeout_s: float | None = None) -> None:
        self.endpoint = endpoint
        self._connection = Connection(endpoint, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, operation: Operation[Req, Res], request: Req | None = None, **parameters: str) -> Res:
        """Call `operation` and return its answer; `parameters` are those of its path.

        Raises the error that the daemon raised, or `Unavailable` if there is no daemon.
        """
        raw = self._send(operation, request, parameters).read()
        return cast(Res, None) if operation.result is None else decoded(raw, operation.result)

    def ask(self, operation: Operation[None, Res], query: dict[str, str], **parameters: str) -> Res:
        """Call `operation` with `query` behind its path and return its answer."""
        assert operation.result is not None
        return decoded(self.download(operation, query, **parameters).read(), operation.result)

    def stream(
        self,
        operation: Operation[Req, Any],
        request: Req | None,
        event: type[Ev],
        query: dict[str, str] | None = None,
        **parameters: str,
    ) -> Iterator[Ev]:
        """Call `operation` and yield its events as they come; an event of type `error` is raised as that error."""
        response = self._send(operation, request, parameters, EVENTS, query=query)
        reader = EventReader(event)
        for piece in response.pieces():
            try:
                yield from reader.feed(piece)
            except BhattiError:
                self.close()
                raise

    def download(self, operation: Operation[None, object], query: dict[str, str], **parameters: str) -> Response:
        """Call `operation` and return its answer, whose body is yet to be read."""
        return self._checked(self._connection.request(operation.method, operation.target(parameters, query)))

    def upload(
        self,
        operation: Operation[None, Res],
        body: bytes | Iterable[bytes],
        query: dict[str, str],
        size: int | None = None,
        **parameters: str,
    ) -> Res:
        """Call `operation` with a body of bytes, of `size` if that is known, and return its answer."""
        target = operation.target(parameters, query)
        headers = () if size is None else (("Content-Length", str(size)),)
        response = self._checked(self._connection.request(operation.method, target, headers=headers, body=body))
        assert operation.result is not None
        return decoded(response.read(), operation.result)

    def head(self, operation: Operation[None, object], query: dict[str, str], **parameters: str) -> dict[str, str]:
        """Call `operation` and return the headers of its answer."""
        return dict(self.download(operation, query, **parameters).head.headers)

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        self._connection.close()

    def _send(
        self,
        operation: Operation[Req, Any],
        request: Req | None,
        parameters: dict[str, str],
        *headers: tuple[str, str],
        query: dict[str, str] | None = None,
    ) -> Response:
        target = operation.target(parameters, query)
        if request is None:
            return self._checked(self._connection.request(operation.method, target, headers=headers))
        body = msgspec.json.encode(request)
        return self._checked(self._connection.request(operation.method, target, headers=[JSON, *headers], body=body))

    def _checked(self, response: Response) -> Response:
        if response.head.status < 400:
            return response
        raise refusal(str(self.endpoint), response.head.status, response.head.reason, response.read())


def refusal(whom: str, status: int, reason: str, raw: bytes) -> BhattiError:
    """Return the error that an answer with an error's status tells of; `whom` is who answered."""
    if not raw:  # an answer to HEAD has no body to say more
        return from_body(status, ErrorBody(f"the daemon answered {status} {reason}", "no-reason-given"))
    try:
        body = msgspec.json.decode(raw, type=ErrorBody)
    except msgspec.MsgspecError:
        said = raw[:200].decode(errors="replace")
        body = ErrorBody(f"{whom} answered {status}: {said}", "foreign-answer")
    return from_body(status, body)


def decoded(raw: bytes, expected: type[Res]) -> Res:
    """Return the JSON of an answer as what it should be; raises `Unavailable` (code `bad-answer`)."""
    try:
        return msgspec.json.decode(raw, type=expected)
    except msgspec.MsgspecError as err:
        raise Unavailable(
            f"the daemon's answer cannot be understood: {err}",
            hint="is it another version? `bhatti version` shows both",
            code="bad-answer",
        ) from err
