"""Should this sandbox sleep? A pure function: facts in, decision and reason out.

Theory of operation. A running sandbox is hot (its processors run), warm (halted, memory kept) or cold (memory on disk,
no process). It goes one step colder when it is idle, and idle means that the *guest* is idle: not only that nobody
calls, but that nobody is attached, nothing it runs uses the processor, and no connection into it is open. The manager
gathers the facts in the order of their price: what the host knows first, what the guest must be asked last, and a
halted guest never. Every decision says why; a person reads that in `bhatti inspect`.

A guest whose agent does not answer tells nothing about its idleness. It is kept hot and the silence is counted; after
`unanswered_limit` silences it is put to sleep all the same, since a guest that answers nobody serves nobody, and asleep
it keeps everything for whoever looks into it.
"""

import enum
import math
from dataclasses import dataclass

from bhatti.model.sandbox import Temperature


class Action(enum.StrEnum):
    """What to do with the sandbox now."""

    KEEP = "keep"
    ASK = "ask"
    PAUSE = "pause"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a sandbox sleeps. Seconds count from the last activity, 0 is never; `unanswered_limit` is a count.

    `look_again_s` is how long commands are watched that were not seen before, `retry_s` when to try again what failed.
    `can_pause` and `can_stop` say what the engine is able to do without losing what is in memory.
    """

    warm_after_s: float = 30.0
    cold_after_s: float = 1800.0
    unanswered_limit: int = 10
    look_again_s: float = 5.0
    retry_s: float = 10.0
    can_pause: bool = True
    can_stop: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFacts:
    """What the agent said: terminals with somebody attached, open connections, and what uses the processor.

    `busy` has (pid, name) of each command that used it since the last look; `unjudged` counts commands of which that
    cannot be told yet, because there was no last look.
    """

    attached_sessions: int = 0
    open_forwards: int = 0
    busy: tuple[tuple[int, str], ...] = ()
    unjudged: int = 0

    @property
    def in_use(self) -> bool:
        """Whether anything of this keeps the sandbox hot."""
        return bool(self.attached_sessions or self.open_forwards or self.busy)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxFacts:
    """What is known of one sandbox. `under_way` describes the calls into it, each as a clause ("exec is under way").

    `guest` is None while the agent has not been asked since the last activity; `unanswered` counts its silences.
    """

    temperature: Temperature
    idle_s: float
    under_way: tuple[str, ...] = ()
    keep_hot: bool = False
    guest: GuestFacts | None = None
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, why, and in how many seconds the answer may change (None: only when somebody does something)."""

    action: Action
    reason: str
    again_in_s: float | None = None


def decide(facts: SandboxFacts, limits: Limits) -> Decision:
    """Decide about one sandbox. `ASK` means: as far as the host can see it may sleep, now ask the guest."""
    match facts.temperature:
        case Temperature.COLD:
            return Decision(Action.KEEP, "cold: wakes at the next call")
        case Temperature.WARM:
            return _warm(facts, limits)
        case Temperature.HOT:
            return _hot(facts, limits)


def _warm(facts: SandboxFacts, limits: Limits) -> Decision:
    if facts.under_way:
        return Decision(Action.KEEP, f"warm: {_clauses(facts.under_way)}")
    if facts.keep_hot:
        return Decision(Action.KEEP, "warm: gets no colder, since keep_hot is set; wakes at the next call")
    if not (limits.can_stop and limits.cold_after_s):
        why = "is set never to be" if limits.can_stop else "its engine cannot keep memory on disk"
        return Decision(Action.KEEP, f"warm: not going cold, {why}; wakes at the next call")
    left_s = limits.cold_after_s - facts.idle_s
    if left_s > 0:
        return Decision(Action.KEEP, f"cold in {_seconds(left_s)}", left_s)
    return Decision(Action.STOP, f"idle for {_seconds(facts.idle_s)}")


def _hot(facts: SandboxFacts, limits: Limits) -> Decision:
    if facts.under_way:
        return Decision(Action.KEEP, f"kept hot: {_clauses(facts.under_way)}")
    if facts.keep_hot:
        return Decision(Action.KEEP, "kept hot: keep_hot is set")
    action, after_s = _next_step(limits)
    if action is Action.KEEP:
        able = limits.can_pause or limits.can_stop
        return Decision(Action.KEEP, f"kept hot: {'it is set never to sleep' if able else 'its engine cannot pause'}")
    left_s = after_s - facts.idle_s
    held_by = None if facts.guest is None else _held_by(facts.guest)
    if left_s > 0:
        becomes = Temperature.WARM if action is Action.PAUSE else Temperature.COLD
        return Decision(Action.KEEP, held_by or f"{becomes} in {_seconds(left_s)}", left_s)
    if facts.unanswered >= limits.unanswered_limit:
        return Decision(action, f"the agent did not answer {_count(facts.unanswered, 'time')}")
    if facts.guest is None:
        if facts.unanswered:
            silences = f"{facts.unanswered} of {limits.unanswered_limit} times"
            return Decision(Action.ASK, f"kept hot: the agent did not answer ({silences})", limits.retry_s)
        return Decision(Action.ASK, "idle as far as the host can see: asking the guest")
    if held_by is not None:
        return Decision(Action.KEEP, held_by, after_s)
    if facts.guest.unjudged:
        commands = _count(facts.guest.unjudged, "command")
        return Decision(Action.KEEP, f"kept hot: watching whether {commands} used CPU", limits.look_again_s)
    return Decision(action, f"idle for {_seconds(facts.idle_s)}")


def _next_step(limits: Limits) -> tuple[Action, float]:
    """Return what comes after hot, and after how many seconds: warm, unless cold comes no later."""
    warm_s = limits.warm_after_s if limits.can_pause else 0
    cold_s = limits.cold_after_s if limits.can_stop else 0
    if warm_s and (not cold_s or warm_s < cold_s):
        return Action.PAUSE, warm_s
    return (Action.STOP, cold_s) if cold_s else (Action.KEEP, 0)


def _held_by(guest: GuestFacts) -> str | None:
    """Return what in the guest keeps it hot, if anything does."""
    if guest.attached_sessions:
        return f"kept hot: {_count(guest.attached_sessions, 'terminal')} attached"
    if guest.open_forwards:
        return f"kept hot: {_count(guest.open_forwards, 'connection')} into the guest open"
    if guest.busy:
        pid, name = guest.busy[0]
        more = f" and {len(guest.busy) - 1} more" if len(guest.busy) > 1 else ""
        return f"kept hot: pid {pid} ({name}){more} used CPU"
    return None


def _clauses(under_way: tuple[str, ...]) -> str:
    more = f", and {len(under_way) - 1} more" if len(under_way) > 1 else ""
    return under_way[0] + more


def _seconds(seconds: float) -> str:
    whole = math.ceil(seconds)
    return f"{whole} s" if whole < 600 else f"{whole // 60} min"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
