"""What every way to a server inside does with a request; tests/unit/.../routes/test_proxy.py has the ordinary cases."""

import asyncio
import contextlib
import gzip
import io
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import anyio
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from tests.serving import Served

from bhatti.server.exchange import passed

pytestmark = pytest.mark.anyio

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


@pytest.fixture
async def one(served: Served) -> Served:
    await served.create("one")
    return served


@asynccontextmanager
async def web_server(handler: object) -> AsyncIterator[str]:
    """A web server in the sandbox; gives the path under which the API passes requests to it."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handler)  # type: ignore[arg-type]
    runner = web.AppRunner(app, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"/sandboxes/one/proxy/{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(serve: object) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)  # type: ignore[arg-type]
    async with server:
        yield f"/sandboxes/one/proxy/{server.sockets[0].getsockname()[1]}/"


def test_headers_of_those_on_the_way_stay_on_the_way() -> None:
    request = make_mocked_request(
        "GET",
        "/",
        headers={
            "Host": "outside",
            "Connection": "close, X-Hop",
            "X-Hop": "1",
            "TE": "trailers",
            "Keep-Alive": "1",
            "X-Forwarded-For": "10.0.0.1",
            "Forwarded": "for=10.0.0.1",
            "X-Forwarded-Host": "bank.example",
            "Cookie": "a=1",
        },
    )
    assert list(passed(request)) == [("Cookie", "a=1")]


def test_nobody_on_the_way_can_take_away_how_long_a_body_is() -> None:
    headers = {"Connection": "content-length, X-Hop", "Content-Length": "4", "X-Hop": "1"}
    assert list(passed(make_mocked_request("POST", "/", headers=headers))) == [("Content-Length", "4")]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nX: a\r\n\r\n",
    ],
    ids=["a switch that nobody asked for", "two lengths", "half a line break"],
)
async def test_an_answer_that_others_would_read_otherwise_is_none(one: Served, answer: bytes) -> None:
    async def say(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()
        writer.close()

    async with raw_server(say) as url, one.http.get(url) as response:
        assert (response.status, (await response.json())["code"]) == (502, "bad-gateway")


async def test_an_answer_in_chunks_says_no_length(one: Served) -> None:
    async def say(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"2\r\nok\r\n0\r\n\r\n")
        writer.close()

    async with raw_server(say) as url, one.http.get(url) as response:
        assert "Content-Length" not in response.headers
        assert await response.read() == b"ok"


async def test_a_packed_body_stays_packed(one: Served) -> None:
    packed = gzip.compress(b"x" * 1000)

    async def unpack(request: web.Request) -> web.Response:
        assert request.headers["Content-Encoding"] == "gzip"
        return web.Response(body=gzip.decompress(await request.read()))

    async with (
        web_server(unpack) as url,
        one.http.post(url, data=packed, headers={"Content-Encoding": "gzip"}) as response,
    ):
        assert (response.status, await response.read()) == (200, b"x" * 1000)


async def test_a_server_may_answer_before_it_has_heard_everything(one: Served) -> None:
    answered = anyio.Event()

    async def refuse(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Enough\r\nContent-Length: 6\r\n\r\nenough")
        await answered.wait()
        writer.close()

    async with (
        raw_server(refuse) as url,
        one.http.post(url, data=io.BytesIO(bytes(4 << 20))) as response,
    ):
        assert (response.status, await response.read()) == (413, b"enough")
        answered.set()


async def test_bodies_stream_both_ways_at_once(one: Served) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece in request.content.iter_any():
            await response.write(piece.upper())
        return response

    heard = anyio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        await heard.wait()
        yield b"two"

    async with web_server(echo) as url, one.http.post(url, data=body()) as response:
        assert await response.content.readexactly(3) == b"ONE"
        heard.set()
        assert await response.content.read() == b"TWO"


async def test_a_caller_who_does_not_read_holds_the_server_and_not_the_daemon(one: Served) -> None:
    held = anyio.Event()

    async def pour(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(64):
            writer.write(bytes(1 << 20))
            with anyio.move_on_after(1) as waiting:
                await writer.drain()
            if waiting.cancelled_caught:
                held.set()
                await writer.drain()
        writer.close()

    async with raw_server(pour) as url, one.http.get(url) as response:
        await response.content.readexactly(1)
        with anyio.fail_after(60):
            await held.wait()
        rest = 1
        async for piece in response.content.iter_any():
            rest += len(piece)
        assert rest == 64 << 20


async def test_a_caller_who_leaves_leaves_nothing_behind(one: Served) -> None:
    left = anyio.Event()

    async def wait(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()
        left.set()
        writer.close()

    async with raw_server(wait) as url:
        with pytest.raises(TimeoutError):
            async with one.http.get(url, timeout=aiohttp.ClientTimeout(total=0.2)):
                pass
        with anyio.fail_after(60):
            await left.wait()
    async with one.http.get("/sandboxes/one") as response:
        assert "under way" not in (await response.json())["thermal_reason"]


async def test_what_breaks_off_after_an_upgrade_has_no_error_written_into_it(one: Served) -> None:
    async def slam(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\nwelcome")
        await reader.read(1)
        opened: socket.socket = writer.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async with raw_server(slam) as url:
        reader, writer = await asyncio.open_unix_connection(str(one.settings.socket))
        writer.write(f"GET {url} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n".encode())
        assert (await reader.readuntil(b"welcome")).startswith(b"HTTP/1.1 101 ")
        writer.write(b"xx")
        rest = b""
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(100):
                rest += data
        assert rest == b""
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        b"Transfer-Encoding: gzip\r\n\r\nabcde",
    ],
)
async def test_a_body_of_two_lengths_reaches_nobody(one: Served, head: bytes) -> None:
    asked = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    async with web_server(note) as url:
        reader, writer = await asyncio.open_unix_connection(str(one.settings.socket))
        writer.write(f"POST {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode() + head)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 ") or answer.startswith(b"HTTP/1.0 400 ")
        assert asked == []
        writer.close()
