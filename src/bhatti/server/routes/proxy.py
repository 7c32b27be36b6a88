"""Any HTTP request, passed to a port inside the sandbox and back, streaming both ways."""

import re
from collections.abc import Iterator

import anyio
from aiohttp import web
from anyio.abc import ByteStream
from multidict import CIMultiDict

from bhatti.errors import ErrorBody, GuestFailure, InvalidRequest
from bhatti.http1 import Head, ProtocolViolation, ResponseParser, chunk, request_head
from bhatti.operations import table
from bhatti.server.call import Call, Handler, json_response
from bhatti.server.guest import entered
from bhatti.server.relay import Connection, Hijacked
from bhatti.server.tasks import together

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

PREFIX = re.compile(r"/sandboxes/[^/?]+/proxy/[^/?]+")

RECEIVE_BYTES = 64 << 10


async def pass_on(call: Call) -> web.StreamResponse:
    """Pass one request on, and its answer back; an upgrade makes it a raw connection both ways."""
    port = _port(call.request.match_info["port"])
    async with entered(call) as link:
        try:
            async with link.forward(port) as stream:
                if "upgrade" in call.request.headers.get("Connection", "").lower():
                    return await _upgraded(call, stream, port)
                return await _exchange(call, stream, port)
        except GuestFailure as err:
            return _bad_gateway(call, f"tunnel failed: {err.message}")
        except (ProtocolViolation, anyio.EndOfStream, anyio.BrokenResourceError) as err:
            if call.request.writer.output_size:
                raise ConnectionAbortedError("the guest's answer broke off") from err
            return _bad_gateway(call, f"bad gateway: {str(err) or 'the guest closed the connection'}")


async def _exchange(call: Call, stream: ByteStream, port: int) -> web.StreamResponse:
    parser = ResponseParser(call.request.method)
    async with together() as tasks:
        tasks.start_soon(_send_request, call, stream, port)
        response: web.StreamResponse | None = None
        while not parser.done:
            for piece in await _next_pieces(parser, stream):
                if response is None and parser.head is not None:
                    response = await _begin(call, parser.head)
                if response is not None:
                    await response.write(piece)
        tasks.cancel_scope.cancel()  # an early answer need not wait for the rest of the body
    assert parser.head is not None
    if response is None:
        response = await _begin(call, parser.head)
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


async def _begin(call: Call, head: Head) -> web.StreamResponse:
    headers: CIMultiDict[str] = CIMultiDict((name, value) for name, value in head.headers if name not in HOP_BY_HOP)
    response = web.StreamResponse(status=head.status, reason=head.reason or None, headers=headers)
    await response.prepare(call.request)
    return response


async def _send_request(call: Call, stream: ByteStream, port: int) -> None:
    request = call.request
    chunked = request.content_length is None and request.can_read_body
    headers = [*_headers(call, port), ("Connection", "close")]
    if chunked:
        headers.append(("Transfer-Encoding", "chunked"))
    await stream.send(request_head(request.method, _target(request.raw_path), headers))
    async for piece in request.content.iter_any():
        await stream.send(chunk(piece) if chunked else piece)
    if chunked:
        await stream.send(chunk(b""))


async def _upgraded(call: Call, stream: ByteStream, port: int) -> web.StreamResponse:
    """Pass the handshake on; if the guest agrees, carry bytes both ways until both sides have ended."""
    request = call.request
    headers = [*_headers(call, port), ("Connection", "Upgrade"), ("Upgrade", request.headers.get("Upgrade", ""))]
    await stream.send(request_head(request.method, _target(request.raw_path), headers))
    parser = ResponseParser(request.method)
    pieces: list[bytes] = []
    while parser.head is None:
        pieces += await _next_pieces(parser, stream)
    if parser.head.status != 101:
        return await _declined(call, parser, stream, pieces)
    connection = Connection.take(request)
    answer = [f"HTTP/1.1 101 {parser.head.reason or 'Switching Protocols'}"]
    answer += [f"{name}: {value}" for name, value in parser.head.headers]
    await connection.send(("\r\n".join(answer) + "\r\n\r\n").encode("latin-1") + parser.rest)
    async with together() as tasks:
        tasks.start_soon(_outward, connection, stream)
        await _inward(connection, stream)
    return Hijacked()


async def _declined(call: Call, parser: ResponseParser, stream: ByteStream, pieces: list[bytes]) -> web.StreamResponse:
    """The guest wants no upgrade: what it says instead is an ordinary answer."""
    assert parser.head is not None
    response = await _begin(call, parser.head)
    while True:
        for piece in pieces:
            await response.write(piece)
        if parser.done:
            break
        pieces = await _next_pieces(parser, stream)
    await response.write_eof()
    return response


async def _inward(connection: Connection, stream: ByteStream) -> None:
    while data := await connection.receive():
        await stream.send(data)
    await stream.send_eof()


async def _outward(connection: Connection, stream: ByteStream) -> None:
    try:
        while True:
            await connection.send(await stream.receive(RECEIVE_BYTES))
    except anyio.EndOfStream:
        connection.send_eof()


def _headers(call: Call, port: int) -> Iterator[tuple[str, str]]:
    yield "Host", f"localhost:{port}"
    for name, value in call.request.headers.items():
        # What a key opened is bhatti's: code in a guest must not get hold of it. Over the socket it is the guest's own.
        if name.lower() == "authorization" and not call.caller.admin:
            continue
        if name.lower() not in HOP_BY_HOP:
            yield name, value
    yield "X-Forwarded-Host", call.request.headers.get("Host", "")
    yield "X-Forwarded-Proto", call.request.scheme


def _target(raw_path: str) -> str:
    """Return the part of the path behind the port, exactly as it was written."""
    rest = PREFIX.sub("", raw_path, count=1)
    return rest if rest.startswith("/") else f"/{rest}"


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535):
        raise InvalidRequest(f"invalid port {text[:20]!r}", hint="a port is 1 to 65535", code="invalid-port")
    return int(text)


def _bad_gateway(call: Call, text: str) -> web.Response:
    hint = "is the server in the sandbox running, and does it listen on that port?"
    return json_response(ErrorBody(error=text, code="bad-gateway", hint=hint, request_id=call.request_id), 502)


HANDLERS: dict[str, Handler] = {table.PROXY.name: pass_on}
