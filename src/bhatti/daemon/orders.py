"""Orders run in the daemon's own task group, so that a caller who goes away does not leave half of one behind.

A request is served in a task that ends, by a plain cancellation, when its connection does; anyio's shields do not hold
that off. An order therefore runs elsewhere, and the caller waits for it: giving up the wait either leaves the order to
finish, or asks it to undo itself and waits for that.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from bhatti.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")


class _Order(Generic[T]):
    """One order: its outcome, its scope, and when it is over."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self.work = work
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()
        self.results: list[T] = []
        self.error: BaseException | None = None

    async def carry_out(self) -> None:
        try:
            with self.scope:
                self.results.append(await self.work())
        except Exception as err:  # handed to whoever waits; if nobody does any more, the log has it
            self.error = err
        finally:
            self.over.set()


class Orders:
    """Carries orders out. `close` waits for those under way."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._under_way: set[_Order[Any]] = set()
        self._closed = False

    async def run(self, work: Callable[[], Awaitable[T]], *, undo_when_left: bool) -> T:
        """Carry `work` out and return its result, or raise what it raised.

        When the caller is cancelled: with `undo_when_left` the work is cancelled and waited for, otherwise it goes on.
        Raises `Unavailable` (code `stopping`) when the daemon stops before it is done.
        """
        if self._closed:
            raise stopping()
        order = _Order(work)
        self._under_way.add(order)
        self._tasks.start_soon(self._carry_out, order)
        try:
            await order.over.wait()
        except BaseException:
            if undo_when_left:
                order.scope.cancel()
                with anyio.CancelScope(shield=True):
                    await order.over.wait()
            raise
        if order.error is not None:
            raise order.error
        if not order.results:
            raise stopping()
        return order.results[0]

    def later(self, work: Callable[[], Awaitable[object]], what: str) -> bool:
        """Carry out `work` that nobody waits for; if it fails, the log tells of it as `what`.

        Return whether it will be: not when the daemon stops.
        """
        if self._closed:
            return False

        async def told() -> None:
            try:
                await work()
            except Exception:
                log.exception("could not %s", what)

        order = _Order(told)
        self._under_way.add(order)
        self._tasks.start_soon(self._carry_out, order)
        return True

    async def close(self, grace_s: float) -> None:
        """Refuse new orders and wait at most `grace_s` for those under way, then cancel them and wait again."""
        self._closed = True
        with anyio.move_on_after(grace_s):
            for order in list(self._under_way):
                await order.over.wait()
        for order in list(self._under_way):
            order.scope.cancel()
            await order.over.wait()

    async def _carry_out(self, order: _Order[T]) -> None:
        try:
            await order.carry_out()
        finally:
            self._under_way.discard(order)


def stopping() -> Unavailable:
    """Return the error of calls that come, or are under way, while the daemon stops."""
    return Unavailable("the daemon is stopping", hint="try again when it serves again", code="stopping")
