import asyncio

import pytest

from bhatti import AsyncSandbox
from bhatti.errors import BhattiError

pytestmark = pytest.mark.anyio


async def test_what_happens_is_told_in_order_also_to_one_who_gave_up_waiting_once(sb: AsyncSandbox) -> None:
    await sb.files.mkdir("here")
    async with sb.files.watch("here", timeout=60) as changes:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(changes), 0.01)
        for name in ("one", "two"):
            await sb.files.mkdir(f"here/{name}")
        made: list[str] = []
        async for change in changes:
            if change.change == "created":
                made.append(str(change.path).rpartition("/")[2])
            if len(made) == 2:
                break
    assert made == ["one", "two"]


async def test_the_time_ends(sb: AsyncSandbox) -> None:
    assert [change async for change in sb.files.watch(timeout=0.05)] == []


async def test_what_cannot_be_watched_is_told(sb: AsyncSandbox) -> None:
    with pytest.raises(BhattiError) as caught:
        async with sb.files.watch("/nowhere"):
            pass
    assert caught.value.code
