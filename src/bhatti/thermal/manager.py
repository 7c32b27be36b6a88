"""The loop that puts idle sandboxes to sleep.

Theory of operation. Once a second every running sandbox is looked at with what the host knows; that costs nothing. Only
where this is not enough is the guest asked, in a task of its own, so that one that does not answer holds up nobody. To
pause and to stop are orders of the daemon, which may refuse: another order is under way, or somebody came in. Then the
next round decides anew.

The clock and the waiting are arguments; tests live through hours in milliseconds.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from bhatti.errors import BhattiError, Busy, Conflict, NotFound
from bhatti.model.sandbox import Temperature
from bhatti.thermal.ledger import Entry, Ledger, Look
from bhatti.thermal.policy import Action, Decision, GuestFacts, Limits, SandboxFacts, decide
from lohar.wire.messages import Facts

log = logging.getLogger(__name__)

ROUND_S = 1.0
"""The most that a decision comes late. A round over hundreds of sandboxes takes under a millisecond."""

MIN_NAP_S = 0.01
"""So that rounding never makes the loop spin."""

BUSY_MS = 10
"""Less than one tick of the kernel's accounting (1/100 s) is nothing."""

BUSY_SHARE = 0.01
"""A server that waits for connections uses a thousandth of a processor, one that serves a hundredth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A sandbox that runs, as the manager needs to know it."""

    id: str
    name: str
    keep_hot: bool
    limits: Limits


class Sandboxes(Protocol):
    """What the manager asks of the daemon.

    Both orders look, once nothing else can come between, whether the sandbox is `still_idle`, and do nothing if not.
    They raise `Busy` when another order is under way.
    """

    def running(self) -> Iterable[Subject]:
        """Return the sandboxes that run, hot and warm."""

    async def facts(self, sandbox_id: str) -> Facts:
        """Ask the guest; raises `Conflict` or `NotFound` when there is nobody to ask any more."""

    async def pause(self, sandbox_id: str, reason: str, still_idle: Callable[[], bool]) -> None:
        """Hot → warm."""

    async def stop(self, sandbox_id: str, reason: str, still_idle: Callable[[], bool]) -> None:
        """Hot or warm → cold."""


class Manager:
    """Looks after all sandboxes until `run` is cancelled."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        ledger: Ledger,
        *,
        ask_timeout_s: float = 5.0,
        wait: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._sandboxes = sandboxes
        self._ledger = ledger
        self._ask_timeout_s = ask_timeout_s
        self._wait = wait
        self._at_work: set[str] = set()

    async def run(self) -> None:
        """Look after the sandboxes, for ever. When cancelled, orders that were begun go on; the daemon has them."""
        async with anyio.create_task_group() as tasks:
            while True:
                await self._wait(self.round(tasks))

    def round(self, tasks: TaskGroup) -> float:
        """Look at every sandbox, see in `tasks` to those that may sleep; return when to look again, in seconds."""
        nap_s, now = ROUND_S, self._ledger.clock()
        for subject in self._sandboxes.running():
            entry = self._ledger.entry(subject.id)
            if subject.id in self._at_work:
                continue
            decision = decide(self._known(subject, entry, entry.temperature), subject.limits)
            if decision.action is Action.KEEP:
                nap_s = min(nap_s, decision.again_in_s or nap_s)
            elif entry.next_look > now:
                nap_s = min(nap_s, entry.next_look - now)
            else:
                self._at_work.add(subject.id)
                tasks.start_soon(self._see_to, subject)
        return max(nap_s, MIN_NAP_S)

    def reason(self, subject: Subject, temperature: Temperature) -> str:
        """Return, for people, why a sandbox that runs is as it is, and what becomes of it."""
        entry = self._ledger.entry(subject.id)
        if entry.trouble and not entry.visits:
            return entry.trouble
        known = self._known(subject, entry, temperature, guest=entry.guest)
        told = decide(known, subject.limits).reason
        slept = entry.asleep_because if temperature is Temperature.WARM else ""
        return f"{told} (paused: {slept})" if slept else told

    async def consider(self, subject: Subject) -> Decision:
        """Decide about one sandbox, asking its guest if need be, and carry the decision out.

        What keeps a sandbox from being put to sleep is logged, told as its reason, and tried again.
        """
        entry = self._ledger.entry(subject.id)
        decision = decide(self._known(subject, entry, entry.temperature), subject.limits)
        try:
            if decision.action is Action.ASK:
                decision = await self._ask(subject, entry)
            active = entry.last_active

            def still_idle() -> bool:
                return not entry.visits and entry.last_active == active

            if decision.action is Action.PAUSE:
                await self._sandboxes.pause(subject.id, decision.reason, still_idle)
            elif decision.action is Action.STOP:
                await self._sandboxes.stop(subject.id, decision.reason, still_idle)
        except (Busy, Conflict, NotFound) as err:  # something else becomes of it; the next round sees what
            log.debug("sandbox %s (%s) does not sleep now: %s", subject.name, subject.id, err.message)
            entry.next_look = self._ledger.clock() + ROUND_S
        except BhattiError as err:
            log.warning("sandbox %s (%s) cannot be put to sleep: %s", subject.name, subject.id, err.message)
            entry.trouble = f"kept {entry.temperature}: cannot be put to sleep: {err.message}"
            entry.next_look = self._ledger.clock() + subject.limits.retry_s
        return decision

    async def _ask(self, subject: Subject, entry: Entry) -> Decision:
        """Ask the guest what it does, and decide again."""
        active, facts, silence = entry.last_active, None, ""
        try:
            with anyio.fail_after(self._ask_timeout_s):
                facts = await self._sandboxes.facts(subject.id)
        except (Busy, Conflict, NotFound):
            raise
        except TimeoutError:
            silence = f"nothing for {self._ask_timeout_s:g} s"
        except BhattiError as err:
            silence = err.message
        if entry.visits or entry.last_active != active:  # somebody came meanwhile: what was asked no longer counts
            return decide(self._known(subject, entry, entry.temperature), subject.limits)
        if facts is None:
            entry.unanswered += 1
            log.warning(
                "the agent of sandbox %s (%s) did not answer, %d of %d times: %s",
                subject.name, subject.id, entry.unanswered, subject.limits.unanswered_limit, silence,
            )  # fmt: skip
        else:
            entry.unanswered = 0
            before = entry.look.facts if entry.look is not None and entry.look.at >= active else None
            entry.guest, entry.look = judged(facts, before), Look(self._ledger.clock(), facts)
        decision = decide(self._known(subject, entry, entry.temperature, guest=entry.guest), subject.limits)
        if entry.guest is not None and entry.guest.in_use:
            # As good as a call: it has been in use until now.
            entry.last_active = entry.look.at if entry.look is not None else active
        entry.next_look = self._ledger.clock() + (decision.again_in_s or 0)
        return decision

    async def _see_to(self, subject: Subject) -> None:
        try:
            await self.consider(subject)
        except Exception:  # a defect in looking after one must not end the looking after all
            log.exception("sandbox %s (%s) could not be looked after", subject.name, subject.id)
            self._ledger.entry(subject.id).next_look = self._ledger.clock() + subject.limits.retry_s
        finally:
            self._at_work.discard(subject.id)

    def _known(
        self, subject: Subject, entry: Entry, temperature: Temperature, *, guest: GuestFacts | None = None
    ) -> SandboxFacts:
        return SandboxFacts(
            temperature=temperature,
            idle_s=self._ledger.clock() - entry.last_active,
            under_way=tuple(visit.doing for visit in entry.visits),
            keep_hot=subject.keep_hot,
            guest=guest,
            unanswered=entry.unanswered,
        )


def judged(facts: Facts, before: Facts | None) -> GuestFacts:
    """Return what the guest's answer means, compared with the one `before`: who has used the processor since."""
    busy: list[tuple[int, str]] = []
    if before is not None:
        used = {process.pid: process.cpu_ms for process in before.processes}
        enough_ms = max(BUSY_MS, BUSY_SHARE * (facts.uptime_ms - before.uptime_ms))
        for process in facts.processes:
            earlier_ms = used.get(process.pid, 0)
            # Less than before: another process has got the pid meanwhile.
            spent_ms = process.cpu_ms - earlier_ms if process.cpu_ms >= earlier_ms else process.cpu_ms
            if spent_ms >= enough_ms:
                busy.append((process.pid, process.name))
    return GuestFacts(
        attached_sessions=facts.attached_sessions,
        open_forwards=facts.forwards,
        busy=tuple(busy),
        unjudged=len(facts.processes) if before is None else 0,
    )
