"""Connections into a sandbox, as byte streams."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from anyio.abc import ByteStream

from bhatti.server.backend import Visitor


class Passing(ByteStream):
    """`stream` as it is, for those who add something to it."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """See `anyio.abc.ByteReceiveStream`."""
        return await self._stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        """See `anyio.abc.ByteSendStream`."""
        await self._stream.send(item)

    async def send_eof(self) -> None:
        """See `anyio.abc.ByteStream`."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """See `anyio.abc.AsyncResource`."""
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """See `anyio.TypedAttributeProvider`."""
        return self._stream.extra_attributes


class Rousing(Passing):
    """`stream` into a sandbox that runs on when something is sent, if somebody has paused it meanwhile.

    An end that is sent can wait: nobody tells one who has left from one who has no more to say.
    """

    def __init__(self, stream: ByteStream, rouse: Callable[[], Awaitable[None]]) -> None:
        super().__init__(stream)
        self._rouse = rouse

    async def send(self, item: bytes) -> None:
        """See `anyio.abc.ByteSendStream`; raises like `Visitor.rouse` too."""
        await self._rouse()
        await super().send(item)


@contextlib.asynccontextmanager
async def tunnel(visitor: Visitor, port: int) -> AsyncIterator[ByteStream]:
    """Open a connection to a port of the sandbox, for the block. Raises like `GuestLink.forward`."""
    async with visitor.link.forward(port) as stream:
        yield Rousing(stream, visitor.rouse)
