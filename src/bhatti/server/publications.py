"""What the server asks of the daemon about published ports."""

import abc

from bhatti.model.user import ADMIN, Caller
from bhatti.operations import types


class PublicationBackend(abc.ABC):
    """Published ports as the server sees them. `ref` is a sandbox, as in `Backend`."""

    @abc.abstractmethod
    async def publish(self, ref: str, request: types.PublishRequest) -> tuple[types.Publication, bool]:
        """Publish a port of a sandbox; say whether that is new. One that sleeps sleeps on.

        Raises `NotFound`, `Conflict` (codes `no-gateway`, `alias-taken`, `already-published`), `LimitExceeded`,
        `InvalidRequest` (code `bad-alias`). When cancelled, it is published all the same.
        """

    @abc.abstractmethod
    def list(self, ref: str | None = None, caller: Caller = ADMIN) -> list[types.Publication]:
        """Return what is published of a sandbox, or of all that the caller may see, the oldest first."""

    @abc.abstractmethod
    async def unpublish(self, ref: str, port: int) -> None:
        """Publish a port no more; who is served over it is cut off.

        Raises `NotFound` (code `not-published`). When cancelled, it is published no more all the same.
        """
