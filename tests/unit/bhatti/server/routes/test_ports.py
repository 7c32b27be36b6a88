import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from tests.serving import Served

from bhatti.engines.base import Machine
from bhatti.errors import EngineFailure

pytestmark = pytest.mark.anyio

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def program(serve: Serve) -> AsyncIterator[int]:
    """A program in the sandbox that listens on a port, which with this engine is one of the host."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def forwarded(
    served: Served, port: int | str, *, upgrade: str = "tcp"
) -> AsyncIterator[tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a port of the sandbox, and the head of the answer that it began with."""
    reader, writer = await asyncio.open_unix_connection(str(served.settings.socket))
    writer.write(f"GET /sandboxes/one/forward/{port} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n".encode())
    writer.write(f"Upgrade: {upgrade}\r\n\r\n".encode())
    yield await reader.readuntil(b"\r\n\r\n"), reader, writer
    writer.close()


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hear the caller out, and only then answer."""
    writer.write((await reader.read()).upper())
    writer.close()


async def test_each_direction_has_an_end_of_its_own(served: Served) -> None:
    async with program(shout) as port, forwarded(served, port) as (head, reader, writer):
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Upgrade: tcp\r\n" in head
        writer.write(b"shouting")
        writer.write_eof()
        assert await reader.read() == b"SHOUTING"


async def test_what_is_sent_lets_a_paused_sandbox_run_on_and_an_end_does_not(own: Served) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.write(b"END")
        writer.close()

    async with program(answer) as port, forwarded(own, port) as (_, reader, writer):
        writer.write(b"before")
        assert await reader.readexactly(6) == b"BEFORE"
        await own.service.pause_sandbox("one")
        writer.write(b"after")
        with anyio.fail_after(60):
            assert await reader.readexactly(5) == b"AFTER"
        await own.service.pause_sandbox("one")
        writer.write_eof()
        await own.service.resume_sandbox("one")
        assert await reader.read() == b"END"
    assert own.engine.resumes == 2


async def test_a_sandbox_that_cannot_run_on_breaks_the_connection(own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(sandbox_id: str) -> Machine:
        raise EngineFailure("it does not move")

    async with program(shout) as port, forwarded(own, port) as (_, reader, writer):
        await own.service.pause_sandbox("one")
        monkeypatch.setattr(own.engine, "resume", fails)
        writer.write(b"shouting")
        with anyio.fail_after(60), suppress(ConnectionResetError):
            assert await reader.read() == b""
    monkeypatch.undo()


async def test_much_goes_both_ways_at_once(served: Served) -> None:
    size = 8 << 20

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async with program(echo) as port, forwarded(served, port) as (_, reader, writer), anyio.create_task_group() as both:

        async def send() -> None:
            for _ in range(size >> 16):
                writer.write(bytes(1 << 16))
                await writer.drain()
            writer.write_eof()

        both.start_soon(send)
        assert await reader.readexactly(size) == bytes(size)
        assert await reader.read() == b""


async def test_a_program_that_breaks_off_breaks_the_connection(served: Served) -> None:
    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        opened: socket.socket = writer.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async with program(slam) as port, forwarded(served, port) as (_, reader, writer):
        writer.write(b"xx")
        with anyio.fail_after(60):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""


async def test_a_caller_who_leaves_leaves_nothing_behind(served: Served) -> None:
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1):
                pass
        finally:
            ended.set()
            writer.close()

    async with program(wait) as port:
        async with forwarded(served, port) as (_, _reader, writer):
            writer.write(b"still here")
            await writer.drain()
            writer.transport.abort()
        with anyio.fail_after(60):
            await ended.wait()


async def test_a_connection_keeps_its_sandbox_hot(served: Served) -> None:
    async with program(shout) as port, forwarded(served, port), served.http.get("/sandboxes/one") as response:
        assert "forward is under way" in (await response.json())["thermal_reason"]


async def test_a_closed_port_is_told_before_the_upgrade(served: Served) -> None:
    async with program(shout) as port:
        pass
    async with forwarded(served, port) as (head, reader, _):
        assert head.startswith(b"HTTP/1.1 422 ")
        assert b"connection-refused" in await reader.readuntil(b"}")


@pytest.mark.parametrize("upgrade", ["websocket", "tcp2", ""])
async def test_it_is_for_nothing_but_an_upgrade_to_tcp(served: Served, upgrade: str) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": upgrade} if upgrade else {}
    async with served.http.get("/sandboxes/one/forward/80", headers=headers) as response:
        assert (response.status, (await response.json())["code"]) == (400, "upgrade-required")


@pytest.mark.parametrize("port", ["0", "65536", "http", "1" * 5000])
async def test_what_is_no_port_is_refused(served: Served, port: str) -> None:
    for path in ("forward", "proxy"):
        async with served.http.get(f"/sandboxes/one/{path}/{port}") as response:
            assert (response.status, (await response.json())["code"]) == (400, "invalid-port")


async def test_who_listens_is_listed(served: Served) -> None:
    async with program(shout) as port:
        async with served.http.get("/sandboxes/one/ports") as response:
            found = {entry["container_port"]: entry for entry in await response.json()}
        async with served.http.get("/sandboxes/one") as response:
            sandbox = await response.json()
        assert found[port]["addresses"] == ["127.0.0.1"]
        assert found[port]["proxy_url"] == f"/sandboxes/{sandbox['id']}/proxy/{port}/"
        async with served.http.get("/ports") as response:
            everywhere = [(entry["sandbox"], entry["container_port"]) for entry in await response.json()]
        assert ("one", port) in everywhere


async def test_nobody_is_woken_for_a_list_of_all(own: Served) -> None:
    await own.create("two")
    async with own.http.post("/sandboxes/two/stop") as response:
        assert response.status == 200
    async with own.http.get("/ports") as response:
        assert {entry["sandbox"] for entry in await response.json()} <= {"one"}
    async with own.http.get("/sandboxes/two") as response:
        assert (await response.json())["status"] == "stopped"
