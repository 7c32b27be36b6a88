"""What the server asks of the daemon about templates. `ref` is a name or an id."""

import abc
import builtins

from bhatti.model.user import Caller
from bhatti.operations import types


class TemplateBackend(abc.ABC):
    """Templates as the server sees them. Each caller has their own, the administrator too."""

    @abc.abstractmethod
    async def create(self, request: types.TemplateSet, caller: Caller) -> types.Template:
        """Make a template; raises `InvalidRequest`, `Conflict` (code `name-taken`), `LimitExceeded`.

        When cancelled, it is made all the same or not at all.
        """

    @abc.abstractmethod
    async def list(self, caller: Caller) -> builtins.list[types.Template]:
        """Return the caller's templates, by name. Safe to cancel."""

    @abc.abstractmethod
    async def get(self, ref: str, caller: Caller) -> types.Template:
        """Return one of the caller's templates; raises `NotFound` (code `template-not-found`). Safe to cancel."""

    @abc.abstractmethod
    async def replace(self, ref: str, request: types.TemplateSet, caller: Caller) -> types.Template:
        """Write a template anew; raises `NotFound` and like `create`. Cancelled, it may be written all the same."""

    @abc.abstractmethod
    async def remove(self, ref: str, caller: Caller) -> None:
        """Remove a template; raises `NotFound`. When cancelled, it may be removed all the same."""
