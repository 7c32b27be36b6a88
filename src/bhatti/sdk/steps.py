"""What a call of the SDK does, without doing it: generators that yield what they need of the outside world.

A driver (`sdk.sync.driver`, `sdk.aio.driver`) carries each step out, sends its outcome back into the generator, or
throws the error in. What to ask, what the answer means and what may be asked again is decided here, and tested
without a socket.
"""

import os
from collections.abc import Callable, Generator
from typing import Any, TypeVar, cast

import msgspec

from bhatti.errors import BhattiError, Busy, Unavailable
from bhatti.http1 import Head
from bhatti.operations.operation import IDEMPOTENCY_KEY, Operation
from bhatti.sdk.client import JSON, decoded, refusal
from bhatti.sdk.endpoint import Endpoint

T = TypeVar("T")
Req = TypeVar("Req")
Res = TypeVar("Res")

PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Between attempts, six seconds in all. Expected: a daemon starts in one, another order on a sandbox takes some."""

REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Methods that do once what they do twice (RFC 9110 section 9.2.2)."""

REFUSED_UNHEARD = frozenset({"starting"})
"""Codes with which the daemon says that it has done nothing of what it was asked, and will in a moment."""


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """Send a request and read the answer. Its outcome is a `Reply`.

    The body is `body` or the local file `source`; the answer's body goes to the local file `sink` if there is one and
    the answer is no error. With `tree` those are directories, which travel as a tar stream (`bhatti.trees`).
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    source: str | None = None
    sink: str | None = None
    tree: bool = False


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer with its body, unless that went to a file. Names of headers are in lower case."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes
    whom: str


class Local(msgspec.Struct, frozen=True):
    """Call a function that may block, on files of this machine. Its outcome is what the function returns."""

    function: Callable[[], object]


class Pause(msgspec.Struct, frozen=True):
    """Wait."""

    seconds: float


Step = Exchange | Local | Pause
Steps = Generator[Step, Any, T]
"""Steps of a call that returns `T`. What is sent in is the outcome of the step before."""


def called(
    operation: Operation[Req, Res],
    request: Req | None = None,
    query: dict[str, str] | None = None,
    **parameters: str,
) -> Steps[Res]:
    """Call `operation` and return its answer; `parameters` are those of its path. Raises the daemon's errors."""
    exchange = Exchange(
        method=operation.method,
        target=operation.target(parameters, query),
        headers=(
            *(() if request is None else (JSON,)),
            *([(IDEMPOTENCY_KEY, os.urandom(16).hex())] if operation.keyed else ()),
        ),
        body=None if request is None else msgspec.json.encode(request),
    )
    reply = yield from exchanged(exchange)
    if operation.result is None:
        return cast(Res, None)
    return decoded(reply.body, operation.result)


def exchanged(exchange: Exchange) -> Steps[Reply]:
    """Return the answer to `exchange`, which is asked again while that is safe and may help. Raises refusals."""
    for pause_s in PAUSES_S:
        try:
            return (yield from _attempt(exchange))
        except BhattiError as err:
            if not _worth_another(err, exchange):
                raise
        yield Pause(pause_s)
    return (yield from _attempt(exchange))


def replied(endpoint: Endpoint, head: Head, body: bytes) -> Reply:
    """Return the outcome of an exchange."""
    return Reply(status=head.status, reason=head.reason, headers=dict(head.headers), body=body, whom=str(endpoint))


def _attempt(exchange: Exchange) -> Steps[Reply]:
    reply: Reply = yield exchange
    if reply.status >= 400:
        raise refusal(reply.whom, reply.status, reply.reason, reply.body)
    return reply


def _worth_another(err: BhattiError, exchange: Exchange) -> bool:
    """Say whether the same request may be sent again, and may succeed.

    `Busy` and `starting` mean that nothing was done. A lost connection leaves open what was, so that only requests
    that may be repeated are; a command is never run twice.
    """
    if isinstance(err, Busy) or err.code in REFUSED_UNHEARD:
        return True
    repeatable = exchange.method in REPEATABLE or any(name == IDEMPOTENCY_KEY for name, _ in exchange.headers)
    return isinstance(err, Unavailable) and err.code == "connection-lost" and repeatable
