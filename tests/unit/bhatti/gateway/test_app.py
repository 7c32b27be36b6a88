import asyncio
import contextlib
import io
import resource
from collections.abc import AsyncIterator

import aiohttp
import anyio
import pytest
from aiohttp import web
from tests.serving import Served, serving, short_directory
from tests.unit.bhatti.gateway.conftest import echo, published, raw_server, web_server

from bhatti.operations.table import ALL

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

KEY = "bht_" + "k" * 43


async def test_a_published_port_is_served_to_strangers(own: Served, stranger: aiohttp.ClientSession) -> None:
    async with web_server(echo) as port:
        found = await published(own, port)
        assert found.url == f"{own.gateway_url}/p/one/"
        async with stranger.post("/p/one/a%2Fb?q=1", data="hello", headers={"X-Mine": "1"}) as response:
            said = await response.json()
    assert (said["target"], said["body"], said["headers"]["X-Mine"]) == ("/a%2Fb?q=1", "hello", "1")
    assert said["headers"]["Host"] == f"localhost:{port}"
    assert said["headers"]["X-Forwarded-Prefix"] == "/p/one"


async def test_a_page_without_its_slash_is_looked_for_behind_it(own: Served, stranger: aiohttp.ClientSession) -> None:
    async with web_server(echo) as port:
        await published(own, port)
        async with stranger.get("/p/one?q=1", allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (308, "/p/one/?q=1")
        async with stranger.post("/p/one?q=1") as response:
            assert (await response.json())["target"] == "/?q=1"


async def test_nothing_of_the_api_is_on_the_gateway(own: Served, stranger: aiohttp.ClientSession) -> None:
    async with web_server(echo) as port:
        await published(own, port)
        key = await own.user("anna")
        for operation in ALL:
            method = "GET" if operation.method == "*" else operation.method
            path = operation.path.replace("{id}", "one").replace("{port}", str(port)).replace("{rest:.*}", "")
            async with stranger.request(method, path, headers={"Authorization": f"Bearer {key}"}) as response:
                assert response.status == 404, operation.name
                assert "X-Bhatti-Api" not in response.headers


@pytest.mark.parametrize(
    "head",
    [
        "GET http://bhatti/sandboxes HTTP/1.1\r\nHost: x",
        "GET http://x/p/one/ HTTP/1.1\r\nHost: x",
        "GET /p/one/../../sandboxes HTTP/1.1\r\nHost: x\r\nHost: y",
        "GET /p/one/ HTTP/1.1\r\nHost: x\r\nHost: x",
        "GET //p/one/ HTTP/1.1\r\nHost: x",
        "GET /p/ONE/ HTTP/1.1\r\nHost: x",
        "GET /p/%6fne/ HTTP/1.1\r\nHost: x",
        "GET /p/one%2F HTTP/1.1\r\nHost: x",
        "OPTIONS * HTTP/1.1\r\nHost: x",
        "CONNECT one:80 HTTP/1.1\r\nHost: x",
        "GET /health HTTP/1.1\r\nHost: x\r\nX-Forwarded-Prefix: /p/one\r\nX-Original-URL: /p/one/",
    ],
)
async def test_what_does_not_name_a_site_exactly_is_for_nobody(own: Served, head: str) -> None:
    asked = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        return web.Response()

    async with web_server(note) as port:
        await published(own, port)
        status, _ = await spoken(own, head.encode() + b"\r\nConnection: close\r\n\r\n")
        assert status in (400, 404)
        assert asked == []


async def spoken(served: Served, request: bytes) -> tuple[int, bytes]:
    """Send a request to the gateway as it is written, and return the status and the whole answer."""
    reader, writer = await asyncio.open_connection(*served.gateway.addresses[0][:2])
    writer.write(request)
    with anyio.fail_after(60):
        answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1]), answer


async def test_where_a_request_came_from_is_said_by_the_gateway_alone(
    own: Served, stranger: aiohttp.ClientSession
) -> None:
    lies = {
        "X-Forwarded-For": "10.0.0.1",
        "X-Forwarded-Host": "bank.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Port": "443",
        "Forwarded": "for=10.0.0.1",
        "X-Real-IP": "10.0.0.1",
        "Connection": "X-Forwarded-For",
    }
    async with web_server(echo) as port:
        await published(own, port)
        async with stranger.get("/p/one/", headers=lies) as response:
            heard = (await response.json())["headers"]
    assert heard["X-Forwarded-For"] == "127.0.0.1"
    assert heard["X-Forwarded-Host"] == own.gateway_url.removeprefix("http://")
    assert heard["X-Forwarded-Proto"] == "http"
    assert not {"Forwarded", "X-Real-IP", "X-Forwarded-Port"} & set(heard)


async def test_a_key_of_the_daemon_goes_no_further_and_the_site_s_own_does(
    own: Served, stranger: aiohttp.ClientSession
) -> None:
    async with web_server(echo) as port:
        await published(own, port)
        for given, passed in ((f"Bearer {KEY}", None), ("Basic c2VzYW1l", "Basic c2VzYW1l")):
            async with stranger.get("/p/one/", headers={"Authorization": given}) as response:
                assert (await response.json())["headers"].get("Authorization") == passed


@contextlib.asynccontextmanager
async def in_domain(*flags: str) -> AsyncIterator[Served]:
    with short_directory() as directory:
        async with serving(directory, "gateway.domain=Apps.Example", *flags) as served:
            await served.create("one")
            await served.create("two")
            yield served


async def test_with_a_domain_the_host_decides_and_the_path_is_the_site_s() -> None:
    async with in_domain() as served, web_server(echo) as port, aiohttp.ClientSession(served.gateway_url) as http:
        found = await published(served, port)
        await published(served, port, "other", "two")
        assert found.url == f"http://one.apps.example:{served.gateway.addresses[0][1]}/"
        for host in ("one.apps.example", "ONE.apps.example.", "one.apps.example:8090"):
            async with http.get("/p/other/x", headers={"Host": host}) as response:
                said = await response.json()
            assert said["target"] == "/p/other/x"
            assert "X-Forwarded-Prefix" not in said["headers"]
        for host in ("apps.example", "x.one.apps.example", "one.apps.example.evil", "oneapps.example", "127.0.0.1"):
            async with http.get("/p/one/", headers={"Host": host, "X-Forwarded-Host": "one.apps.example"}) as response:
                assert response.status == 404, host


async def test_a_proxy_that_is_trusted_is_believed() -> None:
    async with (
        in_domain("gateway.trust_forwarded=true", "gateway.public_url=https://apps.example") as served,
        web_server(echo) as port,
        aiohttp.ClientSession(served.gateway_url) as http,
    ):
        assert (await published(served, port)).url == "https://one.apps.example/"
        headers = {"Host": "one.apps.example", "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
        async with http.get("/", headers=headers) as response:
            heard = (await response.json())["headers"]
    assert (heard["X-Forwarded-For"], heard["X-Forwarded-Proto"]) == ("192.0.2.7, 127.0.0.1", "https")


async def test_nothing_listening_is_told_to_people_and_to_programs(
    own: Served, stranger: aiohttp.ClientSession
) -> None:
    async with web_server(echo) as port:
        pass
    await published(own, port)
    async with stranger.get("/p/one/") as response:
        body = await response.json()
        assert (response.status, body["code"]) == (502, "bad-gateway")
        assert "one" not in str(body).split()
    async with stranger.get("/p/one/", headers={"Accept": "text/html,*/*"}) as response:
        assert response.content_type == "text/html"
        assert "<h1>Nothing answers here</h1>" in await response.text()


async def test_what_does_not_speak_http_is_a_bad_gateway(own: Served, stranger: aiohttp.ClientSession) -> None:
    async def ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    async with raw_server(ssh) as port:
        await published(own, port)
        async with stranger.get("/p/one/") as response:
            assert response.status == 502


async def test_sockets_and_any_other_upgrade_go_through(own: Served, stranger: aiohttp.ClientSession) -> None:
    async def talk(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"heard {message.data}")
        return socket

    async def chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\n")
        writer.write((await reader.read()).upper())
        writer.close()

    async with web_server(talk) as port, raw_server(chat) as other:
        await published(own, port)
        await published(own, other, "chat")
        async with stranger.ws_connect("/p/one/live") as socket:
            await socket.send_str("this")
            assert await socket.receive_str() == "heard this"
            await own.service.pause_sandbox("one")
            await socket.send_str("that")
            assert await socket.receive_str(timeout=60) == "heard that"
        reader, writer = await asyncio.open_connection(*own.gateway.addresses[0][:2])
        writer.write(b"GET /p/chat/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"shouting")
        writer.write_eof()
        assert await reader.read() == b"SHOUTING"
        writer.close()


async def test_a_thousand_who_wait_for_a_sleeper_are_one_wake(own: Served, stranger: aiohttp.ClientSession) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16_384, hard), hard))
    try:
        async with web_server(echo) as port:
            await published(own, port)
            await own.service.stop_sandbox("one")
            statuses: list[int] = []

            async def ask() -> None:
                async with stranger.get("/p/one/") as response:
                    await response.read()
                    statuses.append(response.status)

            async with anyio.create_task_group() as tasks:
                for _ in range(1000):
                    tasks.start_soon(ask)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert statuses == [200] * 1000
    assert (own.engine.starts, own.engine.resumes) == (1, 0)


async def test_a_paused_one_is_resumed_once(own: Served, stranger: aiohttp.ClientSession) -> None:
    async with web_server(echo) as port:
        await published(own, port)
        await own.service.pause_sandbox("one")

        async def ask() -> None:
            async with stranger.get("/p/one/") as response:
                assert response.status == 200

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(ask)
    assert (own.engine.starts, own.engine.resumes) == (0, 1)


async def test_a_sandbox_that_cannot_be_woken_is_told_without_its_story(
    own: Served, stranger: aiohttp.ClientSession
) -> None:
    sandbox = await own.service.sandbox("one")
    await published(own, 8000)
    await own.engine.destroy(sandbox.id)
    async with stranger.get("/p/one/") as response:
        said = await response.text()
        assert (response.status, (await response.json())["code"]) == (503, "unavailable")
        assert int(response.headers["Retry-After"]) >= 1
    assert sandbox.id not in said


async def test_bodies_have_a_limit_however_they_come(own: Served, stranger: aiohttp.ClientSession) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield bytes(1 << 16)

    async def swallow(request: web.Request) -> web.Response:
        with contextlib.suppress(Exception):
            await request.read()
        return web.Response()

    async with web_server(swallow) as port:
        await published(own, port)
        async with stranger.post("/p/one/", data=io.BytesIO(bytes(1 << 20))) as response:
            assert response.status == 200
        async with stranger.post("/p/one/", data=io.BytesIO(bytes((1 << 20) + 1))) as response:
            assert (response.status, (await response.json())["code"]) == (413, "body-too-large")
        async with stranger.post("/p/one/", data=pieces()) as response:
            assert (response.status, (await response.json())["code"]) == (413, "body-too-large")


async def test_heads_have_a_limit(own: Served) -> None:
    await published(own, 8000)
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 8000) for number in range(9))
    status, answer = await spoken(own, b"GET /p/one/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + fields + b"\r\n")
    assert (status, b"headers-too-large" in answer) == (431, True)
    status, _ = await spoken(own, b"GET /p/one/ HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n")
    assert status == 400


async def test_more_than_may_be_served_at_once_are_told_to_come_again() -> None:
    go_on = anyio.Event()
    begun = anyio.Event()

    async def wait(request: web.Request) -> web.Response:
        begun.set()
        await go_on.wait()
        return web.Response()

    with short_directory() as directory:
        async with (
            serving(directory, "gateway.max_open=1") as served,
            web_server(wait) as port,
            aiohttp.ClientSession(served.gateway_url) as http,
            anyio.create_task_group() as tasks,
        ):
            await served.create("one")
            await published(served, port)

            async def first() -> None:
                async with http.get("/p/one/") as response:
                    assert response.status == 200

            tasks.start_soon(first)
            await begun.wait()
            async with http.get("/p/one/") as response:
                assert (response.status, (await response.json())["code"]) == (503, "too-many-requests")
                assert response.headers["Retry-After"] == "2"
            go_on.set()


async def test_more_than_may_wait_for_one_sandbox_are_told_to_come_again(own: Served) -> None:
    await published(own, 8000)
    site = own.service.published.find("one")
    assert site is not None
    site.waiting = own.service.published.limits.max_waiting
    async with aiohttp.ClientSession(own.gateway_url) as http, http.get("/p/one/") as response:
        assert (response.status, (await response.json())["code"]) == (503, "too-many-requests")


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    with short_directory() as directory:
        async with (
            serving(directory, "gateway.idle_timeout_s=0.2") as served,
            raw_server(silent) as port,
            aiohttp.ClientSession(served.gateway_url) as http,
        ):
            await served.create("one")
            await published(served, port)
            async with http.get("/p/one/") as response:
                assert (response.status, (await response.json())["code"]) == (504, "timeout")
            assert "under way" not in (await served.service.sandbox("one")).thermal_reason


async def test_a_caller_who_leaves_leaves_nothing_behind(own: Served, stranger: aiohttp.ClientSession) -> None:
    left = anyio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()
        writer.close()

    async with raw_server(wait) as port:
        await published(own, port)
        with pytest.raises(TimeoutError):
            async with stranger.get("/p/one/", timeout=aiohttp.ClientTimeout(total=0.3)):
                pass
        with anyio.fail_after(60):
            await left.wait()
    site = own.service.published.find("one")
    assert site is not None
    assert site.waiting == 0
    assert "under way" not in (await own.service.sandbox("one")).thermal_reason


async def test_whoever_is_being_served_is_cut_off_when_it_is_published_no_more(
    own: Served, stranger: aiohttp.ClientSession
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        if request.path == "/socket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for _ in socket:
                pass
            return socket
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        await anyio.sleep_forever()
        return response

    async with web_server(stream) as port:
        await published(own, port)
        async with stranger.get("/p/one/") as response, stranger.ws_connect("/p/one/socket") as socket:
            assert await response.content.readexactly(5) == b"begun"
            await own.service.publications.unpublish("one", port)
            with pytest.raises(aiohttp.ClientError):
                await response.content.read()
            assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        async with stranger.get("/p/one/") as response:
            assert (response.status, (await response.json())["code"]) == (404, "not-published")


async def test_while_the_daemon_starts_callers_are_told_to_come_again() -> None:
    with short_directory() as directory:
        async with (
            serving(directory, start=False) as served,
            aiohttp.ClientSession(served.gateway_url) as http,
            http.get("/p/one/") as response,
        ):
            assert (response.status, "Retry-After" in response.headers) == (503, True)


async def test_answers_are_counted(own: Served, stranger: aiohttp.ClientSession) -> None:
    async with stranger.get("/p/none/"):
        pass
    async with own.http.get("/metrics") as response:
        assert 'operation="gateway"' in await response.text()
