"""Waiting for the agent of a container that is being started, while other things are done."""

import anyio

from bhatti.errors import BhattiError
from bhatti.guestlink.client import GuestLink


class Waiting:
    """Asks the agent until it answers, or `timeout_s` are over; `failure` is then why it did not."""

    def __init__(self, link: GuestLink, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.failure: BhattiError | None = None
        self._link = link
        self._over = anyio.Event()

    async def run(self) -> None:
        """Ask; never raises a `BhattiError`."""
        try:
            await self._link.wait_ready(timeout_s=self.timeout_s)
        except BhattiError as error:
            self.failure = error
        self._over.set()

    async def until(self, ended: anyio.Event) -> None:
        """Return when the asking is over, or `ended` is set before."""
        async with anyio.create_task_group() as tasks:

            async def leave() -> None:
                await ended.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(leave)
            await self._over.wait()
            tasks.cancel_scope.cancel()
