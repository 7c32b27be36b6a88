"""What may not happen twice at once, declared where it happens.

Orders that change what a sandbox is (create, stop, destroy) are one at a time per sandbox; what only uses it (exec,
files, terminals) is shared and not declared at all. A second order is refused with `Busy`, naming the first: waiting
would only hide from the caller that the sandbox is about to be something else. Orders that nobody would want to be
refused for that reason (waking it for a call, renaming it) wait instead, and so do orders that leave the sandbox as it
is, for others of their kind (forks of it: who tries five things at once asks for five); and nobody is refused for the
sake of an order that the daemon gave by itself: see `Claims.free`.
"""

import functools
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

import anyio

from bhatti.errors import Busy

P = ParamSpec("P")
R = TypeVar("R")


class _Claim:
    """One order that holds something; `over` is there if somebody waits for its end."""

    __slots__ = ("order", "over")

    def __init__(self, order: str) -> None:
        self.order = order
        self.over: anyio.Event | None = None


class Claims:
    """Who holds what. Used from one event loop only, so that looking and taking are one step."""

    def __init__(self) -> None:
        self._held: dict[str, _Claim] = {}

    @contextmanager
    def hold(self, key: str, what: str) -> Iterator[None]:
        """Hold `key` for the block; raises `Busy`, naming the order that holds it already."""
        if (holder := self.holder(key)) is not None:
            raise Busy(
                f"sandbox {key!r} is busy: {holder} is under way, cannot {what} it",
                hint=f"try again when {holder} has finished",
            )
        claim = self._held[key] = _Claim(what)
        try:
            yield
        finally:
            del self._held[key]
            if claim.over is not None:
                claim.over.set()

    def holder(self, key: str) -> str | None:
        """Return the order that holds `key` now."""
        claim = self._held.get(key)
        return None if claim is None else claim.order

    async def free(self, key: str, *, of: Collection[str] | None = None) -> None:
        """Wait until nobody holds `key`, or with `of` none of these orders.

        When it returns nothing has come between: the caller can take the key in the same step. Safe to cancel.
        """
        while (claim := self._held.get(key)) is not None and (of is None or claim.order in of):
            if claim.over is None:
                claim.over = anyio.Event()
            await claim.over.wait()


class HasClaims(Protocol):
    """What a class needs for its methods to be declared `exclusive`."""

    claims: Claims


class HasId(Protocol):
    """Something with an id to be exclusive about."""

    @property
    def id(self) -> str:
        """The key that is held."""


S = TypeVar("S", bound=HasClaims)
T = TypeVar("T", bound=HasId)

Method = Callable[Concatenate[S, T, P], Coroutine[Any, Any, R]]


def exclusive(
    *, per: Literal["sandbox"], busy: Literal["reject", "wait"], after: Collection[str] = ()
) -> Callable[[Method[S, T, P, R]], Method[S, T, P, R]]:
    """Declare that an async method runs once at a time per id of its first argument; others are refused, or wait.

    One that is refused otherwise waits for the orders that `after` names.

    `per` has one value today; it is spelled out so that a reader of the method need not come here.
    """
    del per

    def declare(method: Method[S, T, P, R]) -> Method[S, T, P, R]:
        @functools.wraps(method)
        async def claimed(self: S, subject: T, /, *args: P.args, **kwargs: P.kwargs) -> R:
            if busy == "wait" or after:
                await self.claims.free(subject.id, of=None if busy == "wait" else after)
            with self.claims.hold(subject.id, method.__name__.strip("_")):
                return await method(self, subject, *args, **kwargs)

        return claimed

    return declare
