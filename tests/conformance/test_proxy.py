"""Engine integration tests, Proxy: HTTP through the link of an engine; the daemon's own part is in tests/server."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from tests.conformance.conftest import Sandbox
from tests.guest_server import answering

from bhatti.errors import GuestFailure
from bhatti.guestlink.commands import Stdout
from bhatti.server.exchange import exchange, passed

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(300)]

PORT, CLOSED_PORT = 9017, 59_998

SERVER = answering(PORT, "X-Asked")


@pytest.fixture
async def outside(box: Sandbox) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a proxy whose first part of the path is the port in the sandbox."""

    async def pass_on(request: web.Request) -> web.StreamResponse:
        port, path = int(request.match_info["port"]), f"/{request.match_info['path']}"
        try:
            async with box.link.forward(port) as stream:
                return await exchange(request, stream, path, [("Host", "box"), *passed(request)])
        except GuestFailure as error:
            return web.Response(status=502, text=error.code)

    app = web.Application()
    app.router.add_route("*", "/{port}/{path:.*}", pass_on)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        async with aiohttp.ClientSession(f"http://{host}:{port}") as client:
            yield client
    finally:
        await runner.cleanup()


async def test_a_server_in_the_guest_is_reached_with_headers_both_ways(
    box: Sandbox, outside: aiohttp.ClientSession
) -> None:
    """HTTP GET through reverse proxy; 404 handling; header forwarding."""
    async with box.link.stream(["python3", "-c", SERVER]) as server:
        async for event in server:
            if isinstance(event, Stdout) and b"listening" in event.data:
                break
        for path, status in (("/found", 200), ("/missing", 404), ("/again", 200)):
            async with outside.get(f"/{PORT}{path}", headers={"X-Asked": "outside"}) as answer:
                assert (answer.status, answer.headers["X-Answered"]) == (status, "inside")
                assert await answer.text() == f"{path} outside"


async def test_a_port_where_nobody_listens_is_told_from_a_server_that_finds_nothing(
    outside: aiohttp.ClientSession,
) -> None:
    """Invalid port."""
    async with outside.get(f"/{CLOSED_PORT}/") as answer:
        assert (answer.status, await answer.text()) == (502, "connection-refused")
