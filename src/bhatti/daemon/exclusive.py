"""What may not happen twice at once, declared where it happens.

Orders that change what a sandbox is (create, destroy) are one at a time per sandbox; what only uses it (exec, files,
terminals) is shared and not declared at all. A second order is refused with `Busy`, naming the first: waiting would
only hide from the caller that the sandbox is about to be something else.
"""

import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

from bhatti.errors import Busy

P = ParamSpec("P")
R = TypeVar("R")


class Claims:
    """Who holds what. Used from one event loop only, so that looking and taking are one step."""

    def __init__(self) -> None:
        self._held: dict[str, str] = {}

    @contextmanager
    def hold(self, key: str, what: str) -> Iterator[None]:
        """Hold `key` for the block; raises `Busy`, naming the order that holds it already."""
        if (holder := self._held.get(key)) is not None:
            raise Busy(
                f"sandbox {key!r} is busy: {holder} is under way, cannot {what} it",
                hint=f"try again when {holder} has finished",
            )
        self._held[key] = what
        try:
            yield
        finally:
            del self._held[key]

    def holder(self, key: str) -> str | None:
        """Return the order that holds `key` now."""
        return self._held.get(key)


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
    *, per: Literal["sandbox"], busy: Literal["reject"]
) -> Callable[[Method[S, T, P, R]], Method[S, T, P, R]]:
    """Declare that an async method runs once at a time per id of its first argument; others are refused.

    `per` and `busy` have one value each today; they are spelled out so that a reader of the method need not come here.
    """
    del per, busy

    def declare(method: Method[S, T, P, R]) -> Method[S, T, P, R]:
        @functools.wraps(method)
        async def claimed(self: S, subject: T, /, *args: P.args, **kwargs: P.kwargs) -> R:
            with self.claims.hold(subject.id, method.__name__.strip("_")):
                return await method(self, subject, *args, **kwargs)

        return claimed

    return declare
