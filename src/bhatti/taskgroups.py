"""Task groups whose end reads like that of any other block."""

import contextlib
from collections.abc import AsyncIterator

import anyio
from anyio.abc import TaskGroup

from bhatti.errors import BhattiError


@contextlib.asynccontextmanager
async def together() -> AsyncIterator[TaskGroup]:
    """A task group that raises the error that ended it, not a group around it.

    If several tasks failed at once, one of our errors goes before any other: it says what to do.
    """
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        errors = list(_leaves(group))
        raise next((error for error in errors if isinstance(error, BhattiError)), errors[0]) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
