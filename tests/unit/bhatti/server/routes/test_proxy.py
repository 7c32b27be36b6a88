import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import anyio
import pytest
from aiohttp import web
from tests.serving import Served
from yarl import URL

pytestmark = pytest.mark.anyio

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def web_server(handler: Handler) -> AsyncIterator[int]:
    """A web server on a port of the sandbox, which with this engine is one of the host."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port: int = runner.addresses[0][1]
    try:
        yield port
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(answer: bytes, *, keep_open: bool = False) -> AsyncIterator[int]:
    """A server that says `answer` to whatever it is asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if keep_open:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def url(port: int, path: str = "/") -> str:
    return f"/sandboxes/one/proxy/{port}{path}"


@asynccontextmanager
async def absolute(served: Served) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that sends a URL exactly as it is written."""
    connector = aiohttp.UnixConnector(str(served.settings.socket))
    async with aiohttp.ClientSession(connector=connector) as http:
        yield http


async def echo(request: web.Request) -> web.Response:
    body = await request.read()
    return web.json_response(
        {
            "method": request.method,
            "target": request.raw_path,
            "headers": dict(request.headers),
            "body": body.decode("latin-1"),
        },
        status=299,
        headers={"X-From": "guest"},
    )


async def test_requests_of_any_kind_arrive_as_they_were_sent(served: Served) -> None:
    async with web_server(echo) as port, absolute(served) as http:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            path = "/a%2Fb/c?q=1&q=2"
            body = None if method in ("GET", "OPTIONS") else "bödy".encode()
            target = URL(f"http://bhatti{url(port, path)}", encoded=True)
            async with http.request(method, target, data=body, headers={"X-Mine": "yes"}) as response:
                found = await response.json()
            assert response.status == 299
            assert response.headers["X-From"] == "guest"
            assert (found["method"], found["target"]) == (method, path)
            assert found["headers"]["Host"] == f"localhost:{port}"
            assert found["headers"]["X-Mine"] == "yes"
            assert found["headers"]["X-Forwarded-Proto"] == "http"
            assert found["body"].encode("latin-1") == (body or b"")


async def test_a_path_without_anything_behind_the_port_is_the_root(served: Served) -> None:
    async with web_server(echo) as port, served.http.get(url(port, "")) as response:
        assert (await response.json())["target"] == "/"


async def test_a_body_without_a_length_is_passed_in_pieces(served: Served) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 1000

    async with web_server(echo) as port, served.http.post(url(port), data=body()) as response:
        assert len((await response.json())["body"]) == 10_000


async def test_an_answer_comes_piece_by_piece(served: Served) -> None:
    go_on = anyio.Event()

    async def slowly(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await go_on.wait()
        await response.write(b"data: 2\n\n")
        return response

    async with web_server(slowly) as port, served.http.get(url(port)) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert await response.content.readuntil(b"\n\n") == b"data: 1\n\n"
        go_on.set()
        assert await response.content.read() == b"data: 2\n\n"


async def test_a_connection_serves_the_next_request_too(served: Served) -> None:
    async with web_server(echo) as port:
        for _ in range(3):
            async with served.http.get(url(port)) as response:
                await response.read()


async def test_an_answer_to_head_has_no_body(served: Served) -> None:
    async with web_server(echo) as port, served.http.head(url(port)) as response:
        assert (response.status, await response.read()) == (299, b"")


async def test_several_cookies_stay_several(served: Served) -> None:
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(answer) as port, served.http.get(url(port)) as response:
        assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\nold",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nold\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold",
    ],
)
async def test_every_way_to_frame_an_answer_is_understood(served: Served, answer: bytes) -> None:
    async with raw_server(answer) as port, served.http.get(url(port)) as response:
        assert (response.status, await response.read()) == (200, b"old")


async def test_a_server_that_keeps_its_connection_open_holds_up_nobody(served: Served) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold"
    async with raw_server(answer, keep_open=True) as port, served.http.get(url(port)) as response:
        assert await response.read() == b"old"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200"])
async def test_what_is_no_answer_is_a_bad_gateway(served: Served, answer: bytes) -> None:
    async with raw_server(answer) as port, served.http.get(url(port)) as response:
        body = await response.json()
        assert (response.status, body["code"]) == (502, "bad-gateway")
        assert "bad gateway: " in body["error"]


async def test_an_answer_that_breaks_off_breaks_off(served: Served) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"
    async with raw_server(answer) as port, served.http.get(url(port)) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_nobody_listening_is_a_bad_gateway_with_the_reason(served: Served) -> None:
    async with raw_server(b"") as port:
        pass
    async with served.http.get(url(port)) as response:
        body = await response.json()
    assert (response.status, body["code"]) == (502, "bad-gateway")
    assert "refused" in body["error"]


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "\uff18"])
async def test_what_is_no_port_is_refused(served: Served, port: str) -> None:
    async with served.http.get(f"/sandboxes/one/proxy/{port}/") as response:
        assert (response.status, (await response.json())["code"]) == (400, "invalid-port")


async def test_nobody_has_no_ports(served: Served) -> None:
    async with served.http.get("/sandboxes/nobody/proxy/80/") as response:
        assert response.status == 404


async def test_a_websocket_goes_through(served: Served) -> None:
    async def talk(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"heard {message.data}")
        return socket

    async with web_server(talk) as port, served.http.ws_connect(url(port, "/live")) as socket:
        for text in ("one", "two"):
            await socket.send_str(text)
            assert await socket.receive_str() == f"heard {text}"


async def test_any_other_protocol_goes_through_too(served: Served) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Upgrade: chat\r\n" in head
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\nwelcome")
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_unix_connection(str(served.settings.socket))
        writer.write(f"GET {url(port)} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        writer.write(b"shouting")
        writer.write_eof()
        assert await reader.read() == b"welcomeSHOUTING"
        writer.close()


async def test_an_upgrade_that_is_declined_is_an_ordinary_answer(served: Served) -> None:
    async with web_server(echo) as port:
        headers = {"Connection": "Upgrade", "Upgrade": "chat"}
        async with served.http.get(url(port), headers=headers) as response:
            assert response.status == 299
            assert (await response.json())["headers"]["Upgrade"] == "chat"
