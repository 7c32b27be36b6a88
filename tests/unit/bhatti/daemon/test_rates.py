import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.daemon.rates import Bucket, Kind, RateLimits, kind_of
from bhatti.daemon.settings import Rates
from bhatti.errors import LimitExceeded
from bhatti.operations import table


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_let_through_and_then_as_much_as_comes_back() -> None:
    clock = Clock()
    limits = RateLimits(Rates(enter_per_minute=60, enter_burst=2), clock)
    limits.spend("anna", Kind.ENTER)
    limits.spend("anna", Kind.ENTER)
    with pytest.raises(LimitExceeded, match="60 a minute, 2 at once") as caught:
        limits.spend("anna", Kind.ENTER)
    assert (caught.value.code, caught.value.retry_after_s) == ("rate-limited", 1.0)
    limits.spend("bert", Kind.ENTER)
    limits.spend("anna", Kind.LOOK)
    clock.now += 1.0
    limits.spend("anna", Kind.ENTER)
    with pytest.raises(LimitExceeded):
        limits.spend("anna", Kind.ENTER)


def test_nothing_a_minute_is_without_a_bound() -> None:
    limits = RateLimits(Rates(create_per_minute=0, create_burst=1), Clock())
    for _ in range(100):
        limits.spend("anna", Kind.CREATE)


def test_who_is_forgotten_begins_anew() -> None:
    limits = RateLimits(Rates(create_burst=1), Clock())
    limits.spend("anna", Kind.CREATE)
    limits.forget("anna")
    limits.spend("anna", Kind.CREATE)


@given(st.lists(st.floats(0, 10), max_size=200), st.floats(1, 600), st.integers(1, 20))
def test_never_more_than_the_burst_and_what_came_back(steps: list[float], per_minute: float, burst: int) -> None:
    bucket, now, taken = Bucket(per_minute, burst, 0.0), 0.0, 0
    for step in steps:
        now += step
        wait_s = bucket.take(now)
        assert wait_s >= 0
        taken += not wait_s
        assert taken <= burst + now * per_minute / 60 + 1e-6


def test_what_a_call_costs() -> None:
    assert kind_of(table.SANDBOX_CREATE) is Kind.CREATE
    assert kind_of(table.EXEC) is Kind.ENTER
    assert kind_of(table.PROXY) is Kind.ENTER
    assert kind_of(table.SANDBOX_LIST) is Kind.LOOK
    assert kind_of(None) is Kind.LOOK
