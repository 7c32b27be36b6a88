"""Connections into a sandbox, through the agent of a real one."""

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute
from tests.serving import Served

from bhatti.server.tunnels import Passing, Rousing, tunnel

pytestmark = pytest.mark.anyio


async def echo(stream: ByteStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data)


async def test_what_is_sent_is_heard_and_lets_a_paused_sandbox_run_on(served: Served) -> None:
    await served.create()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        port = listener.extra(SocketAttribute.local_port)
        async with served.service.visit("one", "a test is under way") as visitor, tunnel(visitor, port) as stream:
            await stream.send(b"hot")
            assert await stream.receive() == b"hot"
            await served.service.pause_sandbox("one")
            with anyio.fail_after(60):
                await stream.send(b"warm")
                assert await stream.receive() == b"warm"
            assert served.engine.resumes == 1
            await stream.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
        tasks.cancel_scope.cancel()


async def test_a_stream_is_passed_as_it_is() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    roused = []

    async def rouse() -> None:
        roused.append(True)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        port = listener.extra(SocketAttribute.local_port)
        async with Rousing(Passing(await anyio.connect_tcp("127.0.0.1", port)), rouse) as stream:
            assert stream.extra(SocketAttribute.remote_port) == port
            await stream.send(b"x")
            assert await stream.receive(10) == b"x"
            await stream.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
        assert roused == [True]
        tasks.cancel_scope.cancel()
