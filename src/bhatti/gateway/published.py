"""What the gateway asks of the daemon: which site has a name, and the way into its sandbox."""

import abc
import contextlib
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import anyio

from bhatti.server.backend import Visitor

MAX_AT_ONCE = 256
"""Connections into one sandbox for one of its ports; an agent has 512 for all, and the owner's own need some. Who comes
beyond that waits with those who wait for it to wake."""


@dataclass(eq=False, slots=True)
class Site:
    """A published port: how many wait for it, the `places` for connections to it, and who is being served."""

    alias: str
    port: int
    waiting: int = 0
    places: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(MAX_AT_ONCE))
    _open: set[anyio.CancelScope] = field(default_factory=set)

    @contextlib.contextmanager
    def serving(self) -> Iterator[anyio.CancelScope]:
        """Serve a request in the block, which `cut` cancels."""
        with anyio.CancelScope() as scope:
            self._open.add(scope)
            try:
                yield scope
            finally:
                self._open.discard(scope)

    def cut(self) -> None:
        """End every request that is being served."""
        for scope in list(self._open):
            scope.cancel()


class Published(abc.ABC):
    """The published ports of a daemon."""

    @abc.abstractmethod
    def find(self, alias: str) -> Site | None:
        """Return the site of that name; raises `Unavailable` while the daemon starts or stops."""

    @abc.abstractmethod
    def enter(self, site: Site) -> AbstractAsyncContextManager[Visitor]:
        """Return a block in which the site's sandbox is used; entering wakes it. Raises as `Backend.visit` does."""

    @abc.abstractmethod
    def answered(self, status: int, seconds: float) -> None:
        """Count an answer; never raises, never waits."""
