"""One HTTP request passed to a server inside a guest, and its answer back, streaming both ways; upgrades included."""

from collections.abc import Iterable, Iterator

import anyio
from aiohttp import web
from anyio.abc import ByteStream
from multidict import CIMultiDict

from bhatti.http1 import Head, Headers, ProtocolViolation, ResponseParser, chunk, request_head
from bhatti.server.relay import Connection, Hijacked, carried
from bhatti.taskgroups import together

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "host",
    }
)
"""RFC 9110 section 7.6.1, and what is said anew here."""

FORWARDED = "x-forwarded-"
OF_PROXIES = frozenset({"forwarded", "x-real-ip"})
"""What only a proxy can know: a caller's own word for it is not passed on."""

RECEIVE_BYTES = 64 << 10
"""What the agent sends at once."""


class NoAnswer(Exception):
    """The server inside did not answer in HTTP; the message says what happened instead."""


class BodyTooLarge(Exception):
    """The request has a larger body than may be passed on."""


async def exchange(
    request: web.Request,
    stream: ByteStream,
    target: str,
    headers: Iterable[tuple[str, str]],
    *,
    max_body_bytes: int | None = None,
) -> web.StreamResponse:
    """Pass `request` on as one for `target` with `headers`; an upgrade makes it a raw connection both ways.

    Raises `NoAnswer` while the caller can still be told, and `ConnectionAbortedError` afterwards; `BodyTooLarge` for
    more than `max_body_bytes`. Safe to cancel.
    """
    try:
        if "upgrade" in request.headers.get("Connection", "").lower():
            return await _upgraded(request, stream, target, headers)
        return await _exchanged(request, stream, target, headers, max_body_bytes)
    except (ProtocolViolation, anyio.EndOfStream, anyio.BrokenResourceError) as err:
        if request.writer.output_size:
            raise ConnectionAbortedError("the guest's answer broke off") from err
        raise NoAnswer(str(err) or "the guest closed the connection") from err


def passed(request: web.Request) -> Iterator[tuple[str, str]]:
    """Yield the headers of a request that are meant for the server behind, and not for those on the way."""
    given = request.headers
    own = {name.strip().lower() for line in given.getall("Connection", []) for name in line.split(",")}
    # Without it, the server behind would take the body for another request, which nobody on the way has seen.
    own.discard("content-length")
    for name, value in given.items():
        lower = name.lower()
        if lower not in HOP_BY_HOP | OF_PROXIES | own and not lower.startswith(FORWARDED):
            yield name, value


async def _exchanged(
    request: web.Request,
    stream: ByteStream,
    target: str,
    headers: Iterable[tuple[str, str]],
    max_body_bytes: int | None,
) -> web.StreamResponse:
    parser = ResponseParser(request.method)
    async with together() as tasks:
        tasks.start_soon(_send_request, request, stream, target, headers, max_body_bytes)
        response: web.StreamResponse | None = None
        while not parser.done:
            for piece in await _next_pieces(parser, stream):
                if response is None and parser.head is not None:
                    response = await _begin(request, parser.head)
                if response is not None:
                    await response.write(piece)
        tasks.cancel_scope.cancel()  # an early answer need not wait for the rest of the body
    assert parser.head is not None
    if response is None:
        response = await _begin(request, parser.head)
    await response.write_eof()
    return response


async def _next_pieces(parser: ResponseParser, stream: ByteStream) -> list[bytes]:
    """Read once; return the pieces of body in what came, an empty one as soon as the head is known."""
    known = parser.head is not None
    try:
        data = await stream.receive(RECEIVE_BYTES)
    except anyio.EndOfStream:
        parser.feed_eof()
        return []
    pieces = list(parser.feed(data))
    return pieces if known or parser.head is None else [b"", *pieces]


async def _begin(request: web.Request, head: Head) -> web.StreamResponse:
    if head.status == 101:
        raise ProtocolViolation("the guest switches to another protocol, which nobody has asked for")
    headers: CIMultiDict[str] = CIMultiDict((name, value) for name, value in head.headers if name not in HOP_BY_HOP)
    response = web.StreamResponse(status=head.status, reason=head.reason or None, headers=headers)
    await response.prepare(request)
    return response


async def _send_request(
    request: web.Request,
    stream: ByteStream,
    target: str,
    headers: Iterable[tuple[str, str]],
    max_body_bytes: int | None,
) -> None:
    chunked = request.content_length is None and request.can_read_body
    said: Headers = [*headers, ("Connection", "close")]
    if chunked:
        said.append(("Transfer-Encoding", "chunked"))
    head = request_head(request.method, target, said)
    sent = 0
    try:
        await stream.send(head)
        async for piece in request.content.iter_any():
            sent += len(piece)
            if max_body_bytes is not None and sent > max_body_bytes:
                raise BodyTooLarge
            await stream.send(chunk(piece) if chunked else piece)
        if chunked:
            await stream.send(chunk(b""))
    except anyio.BrokenResourceError:
        return  # a server that has heard enough: what it said about that is on its way, or its silence tells


async def _upgraded(
    request: web.Request, stream: ByteStream, target: str, headers: Iterable[tuple[str, str]]
) -> web.StreamResponse:
    """Pass the handshake on; if the guest agrees, carry bytes both ways until both sides have ended."""
    said = [header for header in headers if header[0].lower() != "content-length"]  # no body is passed on
    said += [("Connection", "Upgrade"), ("Upgrade", request.headers.get("Upgrade", ""))]
    await stream.send(request_head(request.method, target, said))
    parser = ResponseParser(request.method)
    pieces: list[bytes] = []
    while parser.head is None:
        pieces += await _next_pieces(parser, stream)
    if parser.head.status != 101:
        return await _declined(request, parser, stream, pieces)
    connection = Connection.take(request)
    answer = [f"HTTP/1.1 101 {parser.head.reason or 'Switching Protocols'}"]
    answer += [f"{name}: {value}" for name, value in parser.head.headers]
    await connection.send(("\r\n".join(answer) + "\r\n\r\n").encode("latin-1") + parser.rest)
    await carried(connection, stream)
    return Hijacked()


async def _declined(
    request: web.Request, parser: ResponseParser, stream: ByteStream, pieces: list[bytes]
) -> web.StreamResponse:
    """The guest wants no upgrade: what it says instead is an ordinary answer."""
    assert parser.head is not None
    response = await _begin(request, parser.head)
    while True:
        for piece in pieces:
            await response.write(piece)
        if parser.done:
            break
        pieces = await _next_pieces(parser, stream)
    await response.write_eof()
    return response
