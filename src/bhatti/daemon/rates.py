"""How often a user may call: token buckets (a burst at once, then so many a minute), one per user and kind of call."""

import enum
import math
import time
from collections.abc import Callable

from bhatti.daemon.settings import Rates
from bhatti.errors import LimitExceeded
from bhatti.operations.operation import Operation


class Kind(enum.StrEnum):
    """What a call costs the machine."""

    CREATE = "create"  # something is made that stays
    ENTER = "enter"  # a guest is entered
    LOOK = "look"  # all the rest


class Bucket:
    """Tokens that come back with time. Times are in seconds, of any clock that never goes back."""

    def __init__(self, per_minute: float, burst: int, now: float) -> None:
        self._per_second = per_minute / 60
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take a token and return 0; if there is none, return after how many seconds there will be one."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._per_second
        self._tokens -= 1
        return 0.0


class RateLimits:
    """The buckets of all users. A user who has not called yet has full ones."""

    def __init__(self, rates: Rates, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = {
            Kind.CREATE: (rates.create_per_minute, rates.create_burst),
            Kind.ENTER: (rates.enter_per_minute, rates.enter_burst),
            Kind.LOOK: (rates.look_per_minute, rates.look_burst),
        }
        self._clock = clock
        self._buckets: dict[tuple[str, Kind], Bucket] = {}

    def spend(self, owner: str, kind: Kind) -> None:
        """Count a call of `owner`; raises `LimitExceeded` (code `rate-limited`) that says how long to wait."""
        per_minute, burst = self._rates[kind]
        if not per_minute:
            return
        now = self._clock()
        bucket = self._buckets.get((owner, kind))
        if bucket is None:
            bucket = self._buckets[owner, kind] = Bucket(per_minute, burst, now)
        if wait_s := bucket.take(now):
            raise LimitExceeded(
                f"rate limit exceeded: calls that {kind} may come {per_minute:g} a minute, {burst} at once",
                hint=f"try again in {math.ceil(wait_s)} s; the administrator sets rates.{kind}_per_minute",
                code="rate-limited",
                retry_after_s=wait_s,
            )

    def forget(self, owner: str) -> None:
        """Drop the buckets of a user who is no more."""
        for kind in Kind:
            self._buckets.pop((owner, kind), None)


def kind_of(operation: Operation[object, object] | None) -> Kind:
    """Return what a call of `operation` costs."""
    if operation is None:
        return Kind.LOOK
    if operation.wakes:
        return Kind.ENTER
    return Kind.CREATE if operation.status == 201 else Kind.LOOK
