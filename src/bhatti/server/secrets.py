"""What the server asks of the daemon about secrets."""

import abc
import builtins

from bhatti.model.user import Caller
from bhatti.operations import types


class SecretBackend(abc.ABC):
    """Secrets as the server sees them. Each caller has their own, the administrator too; no method returns a value."""

    @abc.abstractmethod
    async def put(self, request: types.SecretSet, caller: Caller) -> types.Secret:
        """Keep a secret, or give it another value; raises `InvalidRequest`, `LimitExceeded`, `Unavailable`.

        When cancelled, it is kept all the same or not at all.
        """

    @abc.abstractmethod
    async def list(self, caller: Caller) -> builtins.list[types.Secret]:
        """Return the caller's secrets, by name. Safe to cancel."""

    @abc.abstractmethod
    async def get(self, name: str, caller: Caller) -> types.Secret:
        """Return one of the caller's secrets; raises `NotFound` (code `secret-not-found`). Safe to cancel."""

    @abc.abstractmethod
    async def remove(self, name: str, caller: Caller) -> None:
        """Forget a secret; raises `NotFound`. When cancelled, it is forgotten all the same."""

    @abc.abstractmethod
    async def rotate_key(self) -> types.KeyRotation:
        """Encrypt everybody's secrets with a new key; raises `CorruptData` if one cannot be read, changing nothing.

        When cancelled, it goes on.
        """
