import anyio
import pytest
from anyio.abc import ByteStream

from bhatti.gateway.idle import Watched

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_silence_ends_and_what_moves_begins_it_anew() -> None:
    clock = Clock()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)

    async def echo(stream: ByteStream) -> None:
        async with stream:
            await stream.send(await stream.receive())

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        watched = Watched(await anyio.connect_tcp("127.0.0.1", port), clock)
        with anyio.CancelScope() as scope:
            clock.now = 9.0
            await watched.send(b"x")
            clock.now = 18.0
            assert await watched.receive() == b"x"
            clock.now = 27.9
            with anyio.move_on_after(0.01):
                await watched.expire(10, scope)
            assert not scope.cancel_called
            clock.now = 28.0
            await watched.expire(10, scope)
        assert scope.cancel_called
        assert watched.extra(anyio.abc.SocketAttribute.remote_port) == port
        await watched.send_eof()
        await watched.aclose()
        tasks.cancel_scope.cancel()
