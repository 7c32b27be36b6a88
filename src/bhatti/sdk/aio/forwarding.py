"""Ports of a sandbox on this machine, for asyncio: threads carry the bytes, past the event loop."""

from types import TracebackType
from typing import Self

from bhatti.sdk.aio.finishing import in_thread
from bhatti.sdk.forwarding import Forward


class AsyncForward(Forward):
    """A port of this machine, there for the block, that leads to `port` of a sandbox.

    It is there from the beginning. Leaving the block waits for its threads without blocking the loop, as `close` would.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await in_thread(self.close)
