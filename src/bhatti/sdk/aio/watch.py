"""Changes of files as they happen, for asyncio."""

from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from bhatti.operations import table, types
from bhatti.sdk.aio.connection import Connection, Response
from bhatti.sdk.aio.driver import Driver
from bhatti.sdk.client import EVENTS, EventReader, refusal
from bhatti.sdk.flows import Flows
from bhatti.sdk.steps import Steps


class Watch:
    """Iterate over what happens; leave by the end of the block. Inside it nothing is missed.

    Each is a `FileEvent` of type `change`, or `overflow` when so much has happened that some was lost.
    """

    def __init__(self, driver: Driver, flows: Flows, query: Steps[dict[str, str]]) -> None:
        self._driver = driver
        self._flows = flows
        self._query = query
        self._connection = Connection(driver.endpoint)
        self._response: Response | None = None
        self._reader = EventReader(types.FileEvent)
        self._came: deque[types.FileEvent] = deque()

    async def __aenter__(self) -> Self:
        if self._response is None:
            try:
                target = table.FILE_WATCH.target({"id": self._flows.info.id}, await self._driver.run(self._query))
                response = await self._connection.request(table.FILE_WATCH.method, target, headers=[EVENTS])
                if (head := response.head).status >= 400:
                    raise refusal(str(self._driver.endpoint), head.status, head.reason, await response.read())
                self._response = response
                await self._next()  # `ready`
            except BaseException:
                await self.close()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        """A loop that was left early leaves nobody to close it."""
        self._connection.close()

    def __aiter__(self) -> AsyncIterator[types.FileEvent]:
        return self

    async def __anext__(self) -> types.FileEvent:
        """Return the next change; raises `StopAsyncIteration` when the time is up."""
        await self.__aenter__()
        while (event := await self._next()) is not None:
            if event.type in ("change", "overflow"):
                return event
        await self.close()
        raise StopAsyncIteration

    async def close(self) -> None:
        """Watch no longer."""
        self._connection.close()

    async def _next(self) -> types.FileEvent | None:
        assert self._response is not None
        while not self._came:
            pieces = await self._response.more()
            if pieces is None:
                return None
            for piece in pieces:
                self._came.extend(self._reader.feed(piece))
        return self._came.popleft()
