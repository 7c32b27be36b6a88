from collections.abc import Awaitable, Callable

import anyio
import pytest

from bhatti.errors import NotFound
from bhatti.taskgroups import together

pytestmark = pytest.mark.anyio


async def fail(error: Exception) -> None:
    raise error


async def a_task_fails() -> None:
    async with together() as tasks:
        tasks.start_soon(fail, KeyError("x"))
        await anyio.sleep_forever()


async def the_block_fails() -> None:
    async with together() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        raise KeyError("x")


async def several_fail() -> None:
    async with together() as tasks:
        tasks.start_soon(fail, ExceptionGroup("two", [KeyError("x"), ExceptionGroup("more", [NotFound("y")])]))


@pytest.mark.parametrize("work", [a_task_fails, the_block_fails])
async def test_what_went_wrong_comes_out_as_itself(work: Callable[[], Awaitable[None]]) -> None:
    with pytest.raises(KeyError):
        await work()


async def test_one_of_our_errors_goes_before_others() -> None:
    with pytest.raises(NotFound):
        await several_fail()


async def test_nothing_is_raised_where_nothing_went_wrong() -> None:
    async with together() as tasks:
        tasks.start_soon(anyio.lowlevel.checkpoint)
