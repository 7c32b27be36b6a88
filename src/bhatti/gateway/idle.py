"""A byte stream whose silence has an end: neither who serves nor who is served may hold a sandbox awake for nothing."""

import time
from collections.abc import Callable

import anyio
from anyio.abc import ByteStream

from bhatti.server.tunnels import Passing


class Watched(Passing):
    """`stream`, and when something last moved on it. A caller who does not read stops what moves as well."""

    def __init__(self, stream: ByteStream, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._moved = clock()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """See `anyio.abc.ByteReceiveStream`."""
        data = await super().receive(max_bytes)
        self._moved = self._clock()
        return data

    async def send(self, item: bytes) -> None:
        """See `anyio.abc.ByteSendStream`."""
        await super().send(item)
        self._moved = self._clock()

    async def expire(self, idle_s: float, scope: anyio.CancelScope) -> None:
        """Cancel `scope` as soon as nothing has moved for `idle_s` seconds."""
        # What moves sets no event: it would do so a thousand times a second for one who looks once in minutes.
        while (left := self._moved + idle_s - self._clock()) > 0:  # noqa: ASYNC110
            await anyio.sleep(left)
        scope.cancel()
