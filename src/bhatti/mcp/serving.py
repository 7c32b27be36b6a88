"""The server's two ways to be talked to: standard input and output of this process, or HTTP on this machine."""

import ipaddress
import os
import signal
import socket
from collections.abc import Awaitable, Callable

import anyio
import uvicorn
from anyio.abc import TaskStatus

from bhatti.errors import Conflict, InvalidRequest
from bhatti.mcp.tools import Tools

GRACE_S = 1
"""For requests that are under way when an HTTP server ends; then they are cancelled, which ends their commands."""

PATH = "/mcp"


async def over_stdio() -> None:
    """Serve one client, until it closes our input or a signal comes."""
    async with Tools() as tools, anyio.create_task_group() as tasks:
        await tasks.start(_signalled, lambda: _leave(tools))
        await tools.server().run_stdio_async()
        tasks.cancel_scope.cancel()


async def _leave(tools: Tools) -> None:
    """End this process: a thread waits for our input, and nothing but its end, which need not come, would end that."""
    await tools.aclose()
    os._exit(0)


async def over_http(host: str, port: int, tell: Callable[[str], object]) -> None:
    """Serve clients of this machine, until a signal comes; `tell` is told the address once it can be called.

    There are no keys: who can connect can run commands. So it listens to this machine alone. Raises `InvalidRequest`
    (code `bad-address`) for another address, `Conflict` (code `port-taken`).
    """
    with _listening(host, port) as listener:
        async with Tools() as tools, anyio.create_task_group() as tasks:
            app = tools.server().streamable_http_app(streamable_http_path=PATH, host=host)
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE_S))

            async def leave() -> None:
                server.should_exit = True  # cancelled, it would complain with a traceback

            await tasks.start(_signalled, leave)
            tell(f"http://{host}:{listener.getsockname()[1]}{PATH}")
            await server.serve(sockets=[listener])
            tasks.cancel_scope.cancel()


async def _signalled(
    act: Callable[[], Awaitable[None]], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            await act()


def _listening(host: str, port: int) -> socket.socket:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InvalidRequest(
            f"{host} is not an address of this machine alone, and there are no keys",
            hint="listen on 127.0.0.1, and let others in by ssh -L or a proxy that knows them",
            code="bad-address",
        )
    try:
        return socket.create_server((host, port))
    except OSError as err:
        raise Conflict(
            f"cannot listen on {host} port {port}: {os.strerror(err.errno or 0)}",
            hint="give another port, or 0 for any that is free",
            code="port-taken",
        ) from err
