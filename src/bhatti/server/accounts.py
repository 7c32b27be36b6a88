"""What the server asks of the daemon about users: who holds a key, who may call how often, and the users themselves.

`ref` is a name or an id of a user. Every method but `me` of the administrator raises `Unavailable` (code `starting`)
until the daemon has read who there is.
"""

import abc

from bhatti.model.user import Caller
from bhatti.operations import types
from bhatti.operations.operation import Operation


class Accounts(abc.ABC):
    """The users of the daemon."""

    @abc.abstractmethod
    def identify(self, key: str) -> Caller:
        """Return whose key it is; raises `Unauthorized` (code `invalid-key`) if it is nobody's."""

    @abc.abstractmethod
    def spend(self, caller: Caller, operation: Operation[object, object] | None) -> None:
        """Count a call, of something that is no operation if None; raises `LimitExceeded` (code `rate-limited`)."""

    @abc.abstractmethod
    def me(self, caller: Caller) -> types.Me:
        """Say who the caller is, as the caller may know it."""

    @abc.abstractmethod
    def list(self) -> list[types.User]:
        """Return the users, by name."""

    @abc.abstractmethod
    def get(self, ref: str) -> types.User:
        """Return one user; raises `NotFound` (code `user-not-found`)."""

    @abc.abstractmethod
    async def create(self, request: types.UserCreate) -> types.UserKey:
        """Make a user; raises `Conflict` (code `name-taken`). When cancelled, they are made, and the key is lost."""

    @abc.abstractmethod
    async def update(self, ref: str, request: types.UserUpdate) -> types.User:
        """Change a user; raises `NotFound`, `Conflict`. When cancelled, the change is made all the same."""

    @abc.abstractmethod
    async def rotate(self, ref: str) -> types.UserKey:
        """Give a user another key; raises `NotFound`. When cancelled, the old key is gone all the same."""

    @abc.abstractmethod
    async def remove(self, ref: str, *, force: bool) -> types.User:
        """Remove a user and return who that was; raises `NotFound`, or `Conflict` if they have something.

        Codes are `user-has-sandboxes`, `user-has-volumes` and `user-has-secrets`. With `force`, all of it goes first.
        When cancelled, or if one of them cannot be removed, others may be gone, and the user is kept.
        """
