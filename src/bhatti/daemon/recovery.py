"""What the daemon does at its start about what an earlier one left: machines, rows, and orders not settled.

Theory of operation. Three witnesses are compared: the store's rows (what was promised), its journal (what was being
done), and the engine's machines (what is). `plan` decides from them alone, without touching anything, so that every
case can be tested as a table; `Recovery.run` carries the plan out. An order in the journal outranks everything: a
creation nobody got an answer to is undone, a destruction is finished. Otherwise the machine is right about the present
and the row is brought up to date. A machine that no row knows is removed, unless the store is new or was restored: then
it is the store that has been lost, and removing what it forgot would destroy the last thing that is left.
"""

import contextlib
import enum
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from bhatti.engines.base import Engine, Machine
from bhatti.errors import BhattiError, NotFound
from bhatti.model.sandbox import Status
from bhatti.store.intents import Intent, Kind
from bhatti.store.journal import Journal, destroyed
from bhatti.store.sandboxes import Facts, LastWords, Record, now

log = logging.getLogger(__name__)


class Step(enum.StrEnum):
    """What is done about one sandbox."""

    KEEP = "keep"  # row and machine agree
    ADOPT = "adopt"  # the machine runs: the row follows it
    STOPPED = "stopped"  # the machine sleeps or was stopped: the row follows it
    FAILED = "failed"  # the machine is gone or dead: the row keeps its last words
    UNDO_CREATE = "undo-create"  # half made, and nobody has been told of it
    FINISH_DESTROY = "finish-destroy"  # half ended
    REMOVE = "remove"  # no row knows it
    LEAVE = "leave"  # no row knows it, but the store is new
    SKIP = "skip"  # another engine's, or destroyed and gone


@dataclass(frozen=True, slots=True)
class Action:
    """One step, about one sandbox, with its reason."""

    step: Step
    sandbox_id: str
    reason: str
    record: Record | None = None
    machine: Machine | None = None


def plan(
    records: Iterable[Record],
    intents: Iterable[Intent],
    machines: Iterable[Machine],
    *,
    engine: str,
    store_is_new: bool = False,
) -> list[Action]:
    """Decide what to do about every row and every machine, rows first, in their order."""
    orders = {intent.sandbox_id: intent for intent in intents}
    found = {machine.id: machine for machine in machines}
    actions = []
    for record in records:
        machine = found.pop(record.id, None)
        order = orders.get(record.id)
        actions.append(_about(record, order, machine, engine))
    for machine in found.values():
        step = Step.LEAVE if store_is_new else Step.REMOVE
        reason = "the store is new or was restored, and need not know it" if store_is_new else "no row knows it"
        actions.append(Action(step, machine.id, reason, None, machine))
    return actions


def _about(record: Record, order: Intent | None, machine: Machine | None, engine: str) -> Action:
    def action(step: Step, reason: str) -> Action:
        return Action(step, record.id, reason, record, machine)

    if record.engine != engine:
        return action(Step.SKIP, f"it belongs to the engine {record.engine!r}")
    if record.status is Status.DESTROYED:
        if machine is None:
            return action(Step.SKIP, "it was destroyed")
        return action(Step.FINISH_DESTROY, "it was destroyed, but its machine is still there")
    if order is not None and order.kind is Kind.DESTROY:
        return action(Step.FINISH_DESTROY, "its destruction was begun and not finished")
    if record.status is Status.CREATING:
        return action(Step.UNDO_CREATE, "its creation was begun and not finished")
    if machine is None:
        return action(Step.FAILED, "its machine is gone")
    return _compare(record, machine, action)


def _compare(record: Record, machine: Machine, action: Callable[[Step, str], Action]) -> Action:
    match machine.status:
        case Status.RUNNING if record.status is Status.RUNNING:
            return action(Step.ADOPT, "it runs")
        case Status.RUNNING:
            return action(Step.ADOPT, f"it runs, although it was {record.status}")
        case Status.STOPPED if record.status is Status.STOPPED:
            return action(Step.KEEP, "it is stopped")
        case Status.STOPPED:
            return action(Step.STOPPED, f"it is stopped, although it was {record.status}")
        case _ if record.status is Status.FAILED:
            return action(Step.KEEP, "it had failed before")
        case _:
            return action(Step.FAILED, machine.cause.detail if machine.cause else "its machine does not run")


def facts_of(machine: Machine) -> Facts:
    """Return what a row keeps of a machine."""
    return Facts(
        address=machine.address,
        accelerator=machine.accelerator,
        how=machine.how,
        why=machine.why,
        timings_ms=machine.timings_ms,
    )


def last_words(machine: Machine | None, reason: str) -> LastWords:
    """Return the cause of death that the machine tells, or that can be told without it."""
    if machine is None or machine.cause is None:
        return LastWords(kind="host-crash", detail=reason)
    return LastWords(kind=machine.cause.kind, detail=machine.cause.detail, console_tail=machine.cause.console_tail)


class Recovery:
    """Carries a plan out, one action after the other; one that fails is logged and does not hold up the rest."""

    def __init__(self, journal: Journal, engine: Engine) -> None:
        self._journal = journal
        self._engine = engine

    async def run(self) -> list[Action]:
        """Compare, decide and act; return what was decided. What could not be settled is tried again next time."""
        machines = await self._engine.adopt()
        actions = plan(
            await self._journal.sandboxes(),
            await self._journal.intents(),
            machines,
            engine=self._engine.name,
            store_is_new=self._journal.is_new,
        )
        for action in actions:
            if action.step not in (Step.KEEP, Step.SKIP):
                log.info("recovery: %s sandbox %s: %s", action.step, action.sandbox_id, action.reason)
            try:
                await self._act(action)
            except (BhattiError, OSError):
                log.exception("recovery: could not %s sandbox %s", action.step, action.sandbox_id)
        return actions

    async def _act(self, action: Action) -> None:
        record, machine = action.record, action.machine
        match action.step:
            case Step.REMOVE:
                await self._end(action.sandbox_id)
            case Step.LEAVE:
                log.warning(
                    "machine %s is left alone: the store is new or was restored. Unless a store that knows it is put in"
                    " its place, the next start removes it",
                    action.sandbox_id,
                )
            case Step.UNDO_CREATE:
                await self._end(action.sandbox_id)
                await self._journal.undo_create(action.sandbox_id, action.reason)
            case Step.FINISH_DESTROY if record is not None:
                await self._end(action.sandbox_id)
                await self._journal.finish_destroy(destroyed(record))
            case Step.ADOPT | Step.STOPPED if record is not None and machine is not None:
                await self._follow(record, machine, action)
            case Step.FAILED if record is not None:
                words = last_words(machine, action.reason)
                failed = msgspec.structs.replace(record, status=Status.FAILED, cause=words, stopped_at=now())
                await self._journal.note(failed, "failed", words.detail)
            case _:
                pass

    async def _follow(self, record: Record, machine: Machine, action: Action) -> None:
        stopped = action.step is Step.STOPPED
        follows = msgspec.structs.replace(
            record,
            status=machine.status,
            facts=facts_of(machine),
            cause=None,
            stopped_at=(record.stopped_at or now()) if stopped else None,
        )
        if follows != record:
            await self._journal.note(follows, "adopted", action.reason)

    async def _end(self, sandbox_id: str) -> None:
        with contextlib.suppress(NotFound):  # gone already: just as wanted
            await self._engine.destroy(sandbox_id)
