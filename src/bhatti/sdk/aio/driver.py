"""Carries steps out by awaiting."""

import asyncio
import contextlib
from typing import Any, TypeVar

from bhatti.sdk import connection as blocking
from bhatti.sdk.aio.connection import Connection
from bhatti.sdk.aio.finishing import finished, in_thread
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.steps import Exchange, Pause, Reply, Step, Steps, replied
from bhatti.sdk.sync.driver import answered

T = TypeVar("T")


class Driver:
    """Connections to one daemon, as many as there are tasks that use it at once; each is kept and used again."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._idle: list[Connection] = []

    async def run(self, steps: Steps[T]) -> T:
        """Carry `steps` out and return what they return. Cancelled, it ends what the daemon was doing for it."""
        try:
            step = steps.send(None)
            while True:
                try:
                    outcome = await self._carry_out(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result

    async def run_first(self, steps: Steps[T]) -> T:
        """Carry out the steps without whose success nobody will have this driver, nor close it."""
        try:
            return await self.run(steps)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections; the next call opens one again."""
        while self._idle:
            self._idle.pop().close()

    def __del__(self) -> None:
        """Who looks a sandbox up for one call need not know that there are connections."""
        self.close()

    async def _carry_out(self, step: Step) -> Any:  # noqa: ANN401 - the step decides
        if isinstance(step, Exchange):
            return await self._exchange(step)
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        return await in_thread(step.function)

    async def _exchange(self, exchange: Exchange) -> Reply:
        if exchange.source is not None or exchange.sink is not None:
            return await self._transfer(exchange)
        connection = self._idle.pop() if self._idle else Connection(self.endpoint)
        try:
            response = await connection.request(
                exchange.method, exchange.target, headers=exchange.headers, body=exchange.body
            )
            reply = replied(self.endpoint, response.head, await response.read())
        except BaseException:
            # Cancelled in the middle: leaving is what tells the daemon to end what it was doing for us.
            connection.close()
            raise
        self._idle.append(connection)
        return reply

    async def _transfer(self, exchange: Exchange) -> Reply:
        """Send or fetch files as code that blocks does, in a thread: so do the disk, and packing and unpacking."""
        with contextlib.closing(blocking.Connection(self.endpoint)) as connection:
            work = asyncio.to_thread(answered, connection, exchange)
            return await finished(work, on_cancel=connection.abort)
