"""What the server asks of the daemon about long work."""

import abc
from collections.abc import AsyncGenerator

from bhatti.model.user import Caller
from bhatti.operations import types


class TaskBackend(abc.ABC):
    """Tasks as the server sees them. A task of another user is `NotFound` (code `task-not-found`)."""

    @abc.abstractmethod
    def list(self, caller: Caller) -> list[types.Task]:
        """Return the tasks that the caller may see, the newest first."""

    @abc.abstractmethod
    def get(self, caller: Caller, task_id: str) -> types.Task:
        """Return one task; raises `NotFound`."""

    @abc.abstractmethod
    def cancel(self, caller: Caller, task_id: str) -> types.Task:
        """Ask a task to end; raises `NotFound`, or `Conflict` (code `task-over`)."""

    @abc.abstractmethod
    def follow(self, caller: Caller, task_id: str) -> AsyncGenerator[types.Task, None]:
        """Yield a task as it is now and after each of its steps, the last time when it has ended.

        Who is slow misses steps. Raises `NotFound`, `Unavailable` (code `stopping`). Safe to cancel.
        """
