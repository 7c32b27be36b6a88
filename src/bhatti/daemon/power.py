"""How awake a sandbox is: the orders that change it, from people, from calls, and from the thermal manager.

Theory of operation. Every change is an exclusive order. People's orders are refused while another one is under way; a
call that needs the guest waits for it and then wakes the machine, so that it never fails for having come at the wrong
moment; the manager's orders look once more, when nothing can come between, whether anybody has come in. Whoever wants
something of a sandbox that the manager is just putting to sleep waits for those milliseconds.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager

import anyio
import msgspec

from bhatti.daemon import answers
from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.exclusive import Claims, exclusive
from bhatti.daemon.memory import MemoryBudget
from bhatti.daemon.orders import Orders
from bhatti.daemon.recovery import facts_of
from bhatti.daemon.watching import Watching
from bhatti.engines.base import Engine, Machine
from bhatti.errors import BhattiError, Conflict, NotFound
from bhatti.guestlink.client import GuestLink
from bhatti.model.lifecycle import Event, after
from bhatti.model.sandbox import Status, Temperature
from bhatti.server.backend import Visitor
from bhatti.store.journal import Journal
from bhatti.store.sandboxes import Record, now
from bhatti.thermal.ledger import Ledger, Visiting

log = logging.getLogger(__name__)

OF_THE_DAEMON = frozenset({"doze", "sleep", "awaken"})
"""Orders that nobody asked for by name: nobody is refused because of them."""

IN_THE_WAY = OF_THE_DAEMON | {"stop", "start", "pause", "resume", "restore", "destroy"}
"""Orders that a call waits for, since the guest cannot be used meanwhile or not for long."""

ATTEMPTS = 5
"""How often a call wakes a sandbox that somebody else puts to sleep again before the call is through the door."""

Look = Callable[[Record], Awaitable[tuple[Record, Machine | None]]]
"""Ask the engine how a machine is, and write down what has changed."""


class _Wake:
    """A sandbox being woken, for all who wait for that."""

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.error: BhattiError | None = None


class _Visiting(AbstractAsyncContextManager[Visitor]):
    """See `Power.visit`. A class, which takes half of a generator's time: every call into a guest comes by."""

    __slots__ = ("_noted", "_power", "_record", "_wake")

    def __init__(self, power: "Power", record: Record, noted: Visiting, wake: bool) -> None:
        self._power = power
        self._record = record
        self._noted = noted
        self._wake = wake

    async def __aenter__(self) -> Visitor:
        # Written down before the machine is looked at: from here on the manager leaves it alone.
        visit = self._noted.__enter__()
        try:
            link = await self._power.guest(self._record, wake=self._wake)
        except BaseException:
            self._noted.__exit__()
            raise
        return Visitor(link, visit, lambda: self._power.rouse(self._record))

    async def __aexit__(self, *_: object) -> None:
        self._noted.__exit__()


class Power:
    """Pauses, resumes, stops, starts and wakes sandboxes, and lets callers in."""

    def __init__(
        self,
        parts: Callable[[], tuple[Journal, Engine]],
        catalogue: Catalogue,
        claims: Claims,
        orders: Orders,
        ledger: Ledger,
        watch: Watching,
        look: Look,
        memory: MemoryBudget,
    ) -> None:
        self.claims = claims
        self._parts = parts
        self._catalogue = catalogue
        self._orders = orders
        self._ledger = ledger
        self._watch = watch
        self._look = look
        self.memory = memory
        self._wakes: dict[str, _Wake] = {}

    def forget(self, sandbox_id: str) -> None:
        """Drop what is kept of a sandbox that is gone."""
        self._ledger.forget(sandbox_id)

    # --- what people order

    async def stop(self, record: Record, *, memory: bool | None = None) -> Machine:
        """Running → stopped, with its memory or without, or as the engine can. When cancelled, it is stopped all the
        same."""
        return await self.order(record, lambda: self._stop(record, memory))

    async def start(self, record: Record, *, memory: bool = False) -> Machine:
        """Stopped or failed → running, with `memory` not without it. When cancelled, it is started all the same."""
        return await self.order(record, lambda: self._start(record, memory))

    async def pause(self, record: Record) -> Machine:
        """Hot → warm. When cancelled, it is paused all the same."""
        return await self.order(record, lambda: self._pause(record))

    async def resume(self, record: Record) -> Machine:
        """Warm → hot. When cancelled, it is resumed all the same."""
        return await self.order(record, lambda: self._resume(record))

    async def order(self, record: Record, order: Callable[[], Awaitable[Machine]]) -> Machine:
        """Carry a person's order out, after those of the daemon itself. When cancelled, it is done all the same."""
        await self.claims.free(record.id, of=OF_THE_DAEMON)
        return await self._orders.run(order, undo_when_left=False)

    @exclusive(per="sandbox", busy="reject")
    async def _stop(self, record: Record, memory: bool | None) -> Machine:
        after(self._catalogue.find(record.id).status, Event.STOP, sandbox=record.name)
        _, engine = self._parts()
        if memory is None and not engine.capabilities.memory_snapshot:
            return await self._stopped(record, f"stopped, and its memory not kept: {engine.name} cannot", memory=False)
        kept = memory is not False
        return await self._stopped(record, f"stopped on request{'' if kept else ', without its memory'}", memory=kept)

    @exclusive(per="sandbox", busy="reject")
    async def _start(self, record: Record, memory: bool) -> Machine:
        after(self._catalogue.find(record.id).status, Event.START, sandbox=record.name)
        return await self._started(record, "started", memory=memory)

    @exclusive(per="sandbox", busy="reject")
    async def _pause(self, record: Record) -> Machine:
        self._must_run(record, "pause")
        self._ledger.touch(record.id)
        return await self._paused(record, "on request")

    @exclusive(per="sandbox", busy="reject")
    async def _resume(self, record: Record) -> Machine:
        self._must_run(record, "resume")
        return await self._resumed(record, "on request")

    def _must_run(self, record: Record, verb: str) -> None:
        if (status := self._catalogue.find(record.id).status) is not Status.RUNNING:
            raise Conflict(
                f"sandbox {record.name!r} is {status}: cannot {verb} it",
                hint=f"`bhatti start {record.name}` brings it up",
                code="not-running",
            )

    @contextlib.asynccontextmanager
    async def held_hot(self, record: Record, order: str, *, after: Collection[str] = ()) -> AsyncIterator[None]:
        """Keep a sandbox hot for an order that needs it so, waking it if it sleeps; raises `Busy`, and like `guest`.

        Orders that `after` names are no reason for `Busy`: this one waits for them when its turn has come.
        """
        with self._ledger.visiting(record.id, f"{order} is under way"):
            await self.claims.free(record.id, of=OF_THE_DAEMON)
            if self.claims.holder(record.id) not in after:
                with self.claims.hold(record.id, order):
                    pass  # an order does not wait for another one of a person
            await self.guest(record)
            yield

    # --- what the thermal manager orders

    async def doze(self, record: Record, reason: str, still_idle: Callable[[], bool]) -> None:
        """Hot → warm, unless somebody has come in. Raises `Busy`."""
        await self._orders.run(lambda: self._doze(record, reason, still_idle), undo_when_left=False)

    async def sleep(self, record: Record, reason: str, still_idle: Callable[[], bool]) -> None:
        """Running → stopped, unless somebody has come in. Raises `Busy`."""
        await self._orders.run(lambda: self._sleep(record, reason, still_idle), undo_when_left=False)

    @exclusive(per="sandbox", busy="reject")
    async def _doze(self, record: Record, reason: str, still_idle: Callable[[], bool]) -> None:
        if self._catalogue.find(record.id).status is Status.RUNNING and still_idle():
            await self._paused(record, reason)

    @exclusive(per="sandbox", busy="reject")
    async def _sleep(self, record: Record, reason: str, still_idle: Callable[[], bool]) -> None:
        if self._catalogue.find(record.id).status is Status.RUNNING and still_idle():
            await self._stopped(record, reason)

    # --- what calls need

    def visit(self, record: Record, doing: str, *, wake: bool = True) -> AbstractAsyncContextManager[Visitor]:
        """See `Backend.visit`."""
        return _Visiting(self, record, self._ledger.visiting(record.id, doing), wake)

    async def rouse(self, record: Record) -> None:
        """Let a paused sandbox run on, for somebody who is in. One that was stopped stays so: nobody is in any more."""
        await self.claims.free(record.id, of=IN_THE_WAY)
        if self._ledger.is_warm(record.id):
            await self.guest(record)

    async def guest(self, record: Record, *, wake: bool = True) -> GuestLink:
        """Return the link into a sandbox, hot by then. Raises as `Backend.visit` does. Safe to cancel."""
        for _ in range(ATTEMPTS):
            _, engine = self._parts()
            if record.status is Status.CREATING:
                break
            await self.claims.free(record.id, of=IN_THE_WAY)
            record = self._catalogue.find(record.id)
            if record.status is Status.RUNNING:
                try:
                    return engine.link(record.id)
                except (Conflict, NotFound):  # it is not as the store says
                    pass
                record, _ = await self._look(record)
            if record.status not in (Status.RUNNING, Status.STOPPED):
                break
            if not wake:
                raise answers.asleep(record)
            await self._wake(record)
            record = self._catalogue.find(record.id)
        raise answers.not_running(record)

    async def _wake(self, record: Record) -> None:
        """Wake a sandbox: once, however many wait for it. Who finds it being woken waits for how that goes."""
        if (wake := self._wakes.get(record.id)) is not None:
            await wake.over.wait()
            if wake.error is not None:
                raise wake.error
            return
        wake = self._wakes[record.id] = _Wake()
        try:
            # Whoever came first may leave: the order goes on, and with it the others' wait for its end.
            await self._orders.run(lambda: self._woken(record, wake), undo_when_left=False)
        except BhattiError:
            self._settle(record, wake)  # if the order was never begun, as when the daemon stops
            raise

    async def _woken(self, record: Record, wake: _Wake) -> None:
        try:
            if await self._awaken(record):
                self._watch.woken()
        except BhattiError as err:
            wake.error = err
            raise
        finally:
            self._settle(record, wake)

    def _settle(self, record: Record, wake: _Wake) -> None:
        wake.over.set()
        if self._wakes.get(record.id) is wake:
            del self._wakes[record.id]

    @exclusive(per="sandbox", busy="wait")
    async def _awaken(self, record: Record) -> bool:
        """Start or resume it; say whether it was cold."""
        record = self._catalogue.find(record.id)
        if record.status is Status.STOPPED:
            await self._started(record, "woken")
            return True
        if record.status is Status.RUNNING:
            with contextlib.suppress(Conflict, NotFound):  # dead: who looks once this order is over writes that down
                await self._resumed(record, "for a call")
        return False

    # --- how it is done and written down

    async def _paused(self, record: Record, reason: str) -> Machine:
        _, engine = self._parts()
        try:
            machine = await engine.pause(record.id)
        except BaseException:
            await self._found(record)
            raise
        if not self._ledger.entry(record.id).warm:
            self._event(record, "paused", reason)
        self._ledger.asleep(record.id, reason, warm=True)
        return machine

    async def _resumed(self, record: Record, reason: str) -> Machine:
        _, engine = self._parts()
        try:
            machine = await engine.resume(record.id)
        except BaseException:
            await self._found(record)
            raise
        if self._ledger.entry(record.id).warm:
            self._event(record, "resumed", reason)
        self._ledger.awake(record.id)
        return machine

    async def _stopped(self, record: Record, reason: str, *, memory: bool = True) -> Machine:
        journal, engine = self._parts()
        journal.check_sound()
        try:
            machine = await engine.stop(record.id, memory=memory)
        except BaseException:
            await self._found(record)
            raise
        self._ledger.asleep(record.id, reason, warm=False)
        return await self._watch.stopped(await self.became(record, machine, "stopped", reason))

    async def _started(self, record: Record, kind: str, *, memory: bool = False) -> Machine:
        journal, engine = self._parts()
        journal.check_sound()
        with self.memory.promised(record):
            machine = await engine.start(record.id, require_memory=memory)
            self._ledger.awake(record.id)
            return await self.became(record, machine, kind, machine.why)

    async def _found(self, record: Record) -> None:
        """After an order that failed, take the machine as it is."""
        _, engine = self._parts()
        with anyio.CancelScope(shield=True), contextlib.suppress(NotFound):
            machine = await engine.status(record.id)
            self._ledger.entry(record.id).warm = machine.temperature is Temperature.WARM

    async def became(self, record: Record, machine: Machine, kind: str, why: str) -> Machine:
        """Write down what an order has made of a machine. Killed before, the next start sees it by itself."""
        journal, _ = self._parts()
        changed = msgspec.structs.replace(
            self._catalogue.find(record.id),
            status=machine.status,
            facts=facts_of(machine),
            stopped_at=now() if machine.status is Status.STOPPED else None,
            cause=None,
        )
        await journal.note(changed, kind, why)
        self._catalogue.put(changed)
        log.info(kind, extra={"id": record.id, "sandbox": changed.name, "how": machine.how, "why": why})
        return machine

    def _event(self, record: Record, kind: str, reason: str) -> None:
        """Note a pause or its end. Nobody waits for it: a call that wakes a sandbox has no time for the disk."""
        journal, _ = self._parts()
        log.info(kind, extra={"id": record.id, "sandbox": record.name, "why": reason})
        self._orders.later(lambda: journal.happened(kind, reason, record.id), f"note that {record.id} was {kind}")
