import asyncio

import anyio
import pytest

from bhatti.sdk.aio.finishing import finished, in_thread

pytestmark = pytest.mark.anyio


async def test_what_is_done_is_returned_or_raised() -> None:
    assert await in_thread(int, "7") == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 1, 0)


async def test_a_cancellation_waits_for_the_work() -> None:
    begun, done = asyncio.Event(), []

    async def work() -> None:
        begun.set()
        await asyncio.sleep(0.02)
        done.append("done")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(finished, work())
        await begun.wait()
        tasks.cancel_scope.cancel()
    assert done == ["done"]


async def test_a_cancellation_is_heard_and_tells_of_a_failure() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.sleep(0.02)
        raise ZeroDivisionError

    waiting = asyncio.gather(finished(work()))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
