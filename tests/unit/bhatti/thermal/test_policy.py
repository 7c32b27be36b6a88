"""Every way to be idle or not, and the rules that hold for all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.model.sandbox import Temperature
from bhatti.thermal.policy import Action, GuestFacts, Limits, SandboxFacts, decide

HOT, WARM, COLD = Temperature.HOT, Temperature.WARM, Temperature.COLD
IDLE = GuestFacts()
FORWARDS = GuestFacts(open_forwards=2)
EXEC = ("exec is under way",)
MAKE = GuestFacts(busy=((812, "make"),))


def facts(temperature: Temperature, idle_s: float, **more: object) -> SandboxFacts:
    return SandboxFacts(temperature=temperature, idle_s=idle_s, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "action", "reason", "again_in_s"),
    [
        (facts(COLD, 9999), Action.KEEP, "cold: wakes at the next call", None),
        # hot, as the host sees it
        (facts(HOT, 18), Action.KEEP, "warm in 12 s", 12),
        (facts(HOT, 29.5), Action.KEEP, "warm in 1 s", 0.5),
        (facts(HOT, 99, keep_hot=True, guest=IDLE), Action.KEEP, "kept hot: keep_hot is set", None),
        (
            facts(HOT, 99, under_way=("terminal s2 is attached",), guest=IDLE),
            Action.KEEP,
            "kept hot: terminal s2 is attached",
            None,
        ),
        (
            facts(HOT, 99, under_way=("exec is under way", "proxy is under way", "x"), keep_hot=True),
            Action.KEEP,
            "kept hot: exec is under way, and 2 more",
            None,
        ),
        (facts(HOT, 30), Action.ASK, "idle as far as the host can see: asking the guest", None),
        # hot, and the guest was asked
        (facts(HOT, 31, guest=IDLE), Action.PAUSE, "idle for 31 s", None),
        (facts(HOT, 31, guest=MAKE), Action.KEEP, "kept hot: pid 812 (make) used CPU", 30),
        (facts(HOT, 10, guest=MAKE), Action.KEEP, "kept hot: pid 812 (make) used CPU", 20),
        (
            facts(HOT, 31, guest=GuestFacts(busy=((1, "a"), (2, "b")))),
            Action.KEEP,
            "kept hot: pid 1 (a) and 1 more used CPU", 30),
        (facts(HOT, 31, guest=GuestFacts(attached_sessions=1)), Action.KEEP, "kept hot: 1 terminal attached", 30),
        (facts(HOT, 31, guest=FORWARDS), Action.KEEP, "kept hot: 2 connections into the guest open", 30),
        (facts(HOT, 31, guest=GuestFacts(unjudged=1)), Action.KEEP, "kept hot: watching whether 1 command used CPU", 5),
        # hot, and the agent is silent
        (facts(HOT, 40, unanswered=3), Action.ASK, "kept hot: the agent did not answer (3 of 10 times)", 10),
        (facts(HOT, 40, unanswered=10), Action.PAUSE, "the agent did not answer 10 times", None),
        (facts(HOT, 40, unanswered=10, under_way=EXEC), Action.KEEP, "kept hot: exec is under way", None),
        (facts(HOT, 40, unanswered=10, keep_hot=True), Action.KEEP, "kept hot: keep_hot is set", None),
        # warm: never asked
        (facts(WARM, 100), Action.KEEP, "cold in 28 min", 1700),
        (facts(WARM, 1500), Action.KEEP, "cold in 300 s", 300),
        (facts(WARM, 1800), Action.STOP, "idle for 30 min", None),
        (
            facts(WARM, 1800, keep_hot=True),
            Action.KEEP,
            "warm: gets no colder, since keep_hot is set; wakes at the next call", None),
        (facts(WARM, 1800, under_way=EXEC), Action.KEEP, "warm: exec is under way", None),
    ],
)  # fmt: skip
def test_the_table(known: SandboxFacts, action: Action, reason: str, again_in_s: float | None) -> None:
    decision = decide(known, Limits())
    assert (decision.action, decision.reason) == (action, reason)
    assert decision.again_in_s == (None if again_in_s is None else pytest.approx(again_in_s))


@pytest.mark.parametrize(
    ("limits", "temperature", "action", "reason"),
    [
        (Limits(warm_after_s=0), HOT, Action.STOP, "idle for 83 min"),
        (Limits(warm_after_s=0, cold_after_s=0), HOT, Action.KEEP, "kept hot: it is set never to sleep"),
        (Limits(can_pause=False), HOT, Action.STOP, "idle for 83 min"),
        (Limits(can_pause=False, can_stop=False), HOT, Action.KEEP, "kept hot: its engine cannot pause"),
        (Limits(can_stop=False), HOT, Action.PAUSE, "idle for 83 min"),
        (Limits(cold_after_s=0), HOT, Action.PAUSE, "idle for 83 min"),
        (Limits(warm_after_s=100, cold_after_s=50), HOT, Action.STOP, "idle for 83 min"),
        (Limits(cold_after_s=0), WARM, Action.KEEP, "warm: not going cold, is set never to be; wakes at the next call"),
        (
            Limits(can_stop=False),
            WARM,
            Action.KEEP,
            "warm: not going cold, its engine cannot keep memory on disk; wakes at the next call",
        ),
    ],
)
def test_times_and_engines_of_all_kinds(limits: Limits, temperature: Temperature, action: Action, reason: str) -> None:
    decision = decide(facts(temperature, 5000, guest=IDLE), limits)
    assert (decision.action, decision.reason) == (action, reason)


GUESTS = st.builds(
    GuestFacts,
    attached_sessions=st.integers(0, 3),
    open_forwards=st.integers(0, 3),
    busy=st.lists(st.tuples(st.integers(1, 99), st.text(max_size=5)), max_size=2).map(tuple),
    unjudged=st.integers(0, 2),
)
KNOWN = st.builds(
    SandboxFacts,
    temperature=st.sampled_from(Temperature),
    idle_s=st.floats(0, 10_000),
    under_way=st.lists(st.text(min_size=1, max_size=5), max_size=2).map(tuple),
    keep_hot=st.booleans(),
    guest=st.none() | GUESTS,
    unanswered=st.integers(0, 20),
)
LIMITS = st.builds(
    Limits,
    warm_after_s=st.floats(0, 5000),
    cold_after_s=st.floats(0, 5000),
    unanswered_limit=st.integers(1, 20),
    can_pause=st.booleans(),
    can_stop=st.booleans(),
)


@given(KNOWN, LIMITS)
def test_what_is_in_use_never_gets_colder_and_there_is_always_a_reason(known: SandboxFacts, limits: Limits) -> None:
    decision = decide(known, limits)
    assert decision.reason
    assert decision.again_in_s is None or decision.again_in_s > 0
    colder = decision.action in (Action.PAUSE, Action.STOP)
    if known.under_way or known.keep_hot or known.temperature is COLD:
        assert decision.action is Action.KEEP
    if known.temperature is HOT and colder and known.unanswered < limits.unanswered_limit:
        assert known.guest is not None
        assert not known.guest.in_use
    if colder:
        assert known.idle_s >= min(limits.warm_after_s or 5000, limits.cold_after_s or 5000)
    assert decision.action is not Action.PAUSE or (limits.can_pause and known.temperature is HOT)
    assert decision.action is not Action.STOP or limits.can_stop
    assert decision.action is not Action.ASK or known.temperature is HOT
