"""A byte stream whose silence has an end: neither who serves nor who is served may hold a sandbox awake for nothing."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from anyio.abc import ByteStream


class Watched(ByteStream):
    """`stream`, and when something last moved on it. A caller who does not read stops what moves as well."""

    def __init__(self, stream: ByteStream, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._moved = clock()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """See `anyio.abc.ByteReceiveStream`."""
        data = await self._stream.receive(max_bytes)
        self._moved = self._clock()
        return data

    async def send(self, item: bytes) -> None:
        """See `anyio.abc.ByteSendStream`."""
        await self._stream.send(item)
        self._moved = self._clock()

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

    async def expire(self, idle_s: float, scope: anyio.CancelScope) -> None:
        """Cancel `scope` as soon as nothing has moved for `idle_s` seconds."""
        # What moves sets no event: it would do so a thousand times a second for one who looks once in minutes.
        while (left := self._moved + idle_s - self._clock()) > 0:  # noqa: ASYNC110
            await anyio.sleep(left)
        scope.cancel()
