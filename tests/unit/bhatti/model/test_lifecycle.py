import itertools

import pytest

from bhatti.errors import Conflict
from bhatti.model.lifecycle import ORDERS, TRANSITIONS, Event, after
from bhatti.model.sandbox import Status

LEGAL = sorted(TRANSITIONS)
ILLEGAL = sorted(set(itertools.product(Status, Event)) - set(TRANSITIONS))


@pytest.mark.parametrize(("status", "event"), LEGAL)
def test_legal_moves_lead_where_the_table_says(status: Status, event: Event) -> None:
    assert after(status, event, sandbox="x") is TRANSITIONS[status, event]


@pytest.mark.parametrize(("status", "event"), ILLEGAL)
def test_illegal_moves_are_refused_and_the_legal_ones_named(status: Status, event: Event) -> None:
    with pytest.raises(Conflict) as caught:
        after(status, event, sandbox="agent-1")
    assert "agent-1" in caught.value.message
    assert caught.value.code == "illegal-transition"
    for state, legal in LEGAL:
        if state is status:
            assert (legal in (caught.value.hint or "")) is (legal in ORDERS)


def test_every_status_can_be_reached_and_all_but_destroyed_can_be_destroyed() -> None:
    assert set(TRANSITIONS.values()) | {Status.CREATING} == set(Status)
    for status in set(Status) - {Status.DESTROYED}:
        assert after(status, Event.DESTROY, sandbox="x") is Status.DESTROYED


def test_destroyed_is_final() -> None:
    assert not [event for (state, event) in TRANSITIONS if state is Status.DESTROYED]
