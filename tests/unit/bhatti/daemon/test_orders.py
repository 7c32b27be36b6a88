import asyncio

import anyio
import pytest

from bhatti.daemon.orders import Orders
from bhatti.errors import Unavailable

pytestmark = pytest.mark.anyio


class Work:
    """Something that takes until it is released, and notes what became of it."""

    def __init__(self) -> None:
        self.began = anyio.Event()
        self.release = anyio.Event()
        self.over = anyio.Event()
        self.outcome = ""

    async def __call__(self) -> str:
        self.began.set()
        try:
            await self.release.wait()
            self.outcome = "done"
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()  # undoing takes a while
            self.outcome = "undone"
            raise
        finally:
            self.over.set()
        return self.outcome


async def test_the_result_comes_back() -> None:
    work = Work()
    work.release.set()
    async with anyio.create_task_group() as tasks:
        assert await Orders(tasks).run(work, undo_when_left=True) == "done"


async def test_an_error_comes_back() -> None:
    async def work() -> None:
        raise KeyError("x")

    async with anyio.create_task_group() as tasks:
        with pytest.raises(KeyError):
            await Orders(tasks).run(work, undo_when_left=False)


@pytest.mark.parametrize("undo", [True, False])
async def test_a_caller_who_is_cancelled_leaves_the_order_to_finish_or_waits_for_it_to_be_undone(undo: bool) -> None:
    work = Work()
    async with anyio.create_task_group() as tasks:
        orders = Orders(tasks)
        caller = asyncio.get_running_loop().create_task(orders.run(work, undo_when_left=undo))
        await work.began.wait()
        caller.cancel()  # as the server does when a connection ends: no scope, no shield
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert work.outcome == ("undone" if undo else "")
        work.release.set()
        await work.over.wait()
    assert work.outcome == ("undone" if undo else "done")


async def test_a_caller_cancelled_by_his_scope_waits_for_the_undoing_too() -> None:
    work = Work()
    async with anyio.create_task_group() as tasks:
        orders = Orders(tasks)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as callers:
                callers.start_soon(lambda: orders.run(work, undo_when_left=True))
                await work.began.wait()
                scope.cancel()
        assert work.outcome == "undone"


async def test_closing_waits_for_what_is_under_way() -> None:
    work = Work()
    async with anyio.create_task_group() as tasks:
        orders = Orders(tasks)
        caller = asyncio.get_running_loop().create_task(orders.run(work, undo_when_left=False))
        await work.began.wait()
        tasks.start_soon(orders.close, 10)
        await anyio.lowlevel.checkpoint()
        with pytest.raises(Unavailable) as caught:
            await orders.run(Work(), undo_when_left=False)
        assert caught.value.code == "stopping"
        work.release.set()
        assert await caller == "done"


async def test_closing_undoes_what_takes_too_long() -> None:
    work = Work()
    async with anyio.create_task_group() as tasks:
        orders = Orders(tasks)
        caller = asyncio.get_running_loop().create_task(orders.run(work, undo_when_left=False))
        await work.began.wait()
        await orders.close(0.01)
        with pytest.raises(Unavailable) as caught:
            await caller
        assert caught.value.code == "stopping"
    assert work.outcome == "undone"


async def test_work_that_nobody_waits_for_is_waited_for_at_the_end_and_refused_after_it() -> None:
    work = Work()
    async with anyio.create_task_group() as tasks:
        orders = Orders(tasks)
        assert orders.later(work, "work")
        await work.began.wait()
        work.release.set()
        await orders.close(60)
        assert work.outcome == "done"
        assert not orders.later(work, "work again")
