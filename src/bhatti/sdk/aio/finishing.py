"""What is done to its end, whoever is cancelled meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def finished(work: Coroutine[Any, Any, T], *, on_cancel: Callable[[], object] = lambda: None) -> T:
    """Do `work` and return what it returns; a cancellation of the caller is heard when it is done.

    `on_cancel` is called for every cancellation, and may bring the end about.

    A sandbox that a block made is destroyed also when the block was cancelled, and a thread that has a file in its
    hands cannot be left alone with it. anyio repeats a cancellation for as long as it is not heard.
    """
    task = asyncio.get_running_loop().create_task(work)  # waited for here, whatever comes
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as err:
            cancelled = err
            on_cancel()
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Call a function that may block, in a thread, and return what it returns."""
    return await finished(asyncio.to_thread(function, *arguments))
