import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from tests.serving import Served, serving, short_directory

from bhatti.operations import types

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def own() -> AsyncIterator[Served]:
    """A daemon with a sandbox called `one`, whose gateway has small limits."""
    limits = ("max_body_mb=1", "max_waiting=2000", "max_open=2000")
    with short_directory() as directory:
        async with serving(directory, *(f"gateway.{limit}" for limit in limits)) as found:
            await found.create("one")
            yield found


@pytest.fixture
async def stranger(own: Served) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who knows where the gateway is, and nothing else."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(own.gateway_url, connector=connector) as http:
        yield http


@asynccontextmanager
async def web_server(handler: Handler) -> AsyncIterator[int]:
    """A web server in the sandbox, which with this engine is one of the host; gives its port."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(serve: Serve) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def published(served: Served, port: int, alias: str | None = None, ref: str = "one") -> types.Publication:
    found, _ = await served.service.publications.publish(ref, types.PublishRequest(port=port, alias=alias))
    return found


async def echo(request: web.Request) -> web.Response:
    """Say what was asked, and how."""
    body = await request.text()
    headers = {name: ", ".join(request.headers.getall(name)) for name in request.headers}
    return web.json_response({"target": request.raw_path, "headers": headers, "body": body})
