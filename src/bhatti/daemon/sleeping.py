"""The thermal manager's hands and eyes in the daemon: which sandboxes run, what guests say, who is put to sleep."""

from collections.abc import Callable, Iterator

import anyio

from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.power import Power
from bhatti.daemon.settings import Thermal
from bhatti.engines.base import Engine, Machine
from bhatti.errors import Conflict
from bhatti.model.sandbox import Status, Temperature
from bhatti.store.sandboxes import Record
from bhatti.thermal.ledger import Ledger
from bhatti.thermal.manager import Manager, Subject
from bhatti.thermal.policy import Limits
from lohar.wire.messages import Facts


class Sleeping:
    """Runs the thermal manager over this daemon's sandboxes, and tells its reasons."""

    def __init__(self, settings: Thermal, engine: Engine, catalogue: Catalogue, power: Power, ledger: Ledger) -> None:
        self._settings = settings
        self._engine = engine
        self._catalogue = catalogue
        self._power = power
        self._ledger = ledger
        self._scope = anyio.CancelScope()
        self._over: anyio.Event | None = None
        self.manager = Manager(self, ledger, ask_timeout_s=settings.ask_timeout_s)

    async def recover(self) -> None:
        """Take up where the machines are: what is warm stays warm until it is called, counted as idle from now."""
        for machine in await self._engine.list():
            self._ledger.entry(machine.id).warm = machine.temperature is Temperature.WARM

    async def run(self) -> None:
        """Put idle sandboxes to sleep until `aclose`."""
        self._over = anyio.Event()
        try:
            with self._scope:
                await self.manager.run()
        finally:
            self._over.set()

    async def aclose(self) -> None:
        """End `run` and wait for that. Idempotent; orders that were begun are the daemon's to finish."""
        self._scope.cancel()
        if self._over is not None:
            await self._over.wait()

    def reason(self, record: Record, machine: Machine | None) -> str:
        """Return, for people, why a sandbox is as awake as it is, and what becomes of it."""
        if record.status is Status.RUNNING and machine is not None:
            return self.manager.reason(self._subject(record), machine.temperature)
        if record.status is Status.STOPPED:
            because = self._ledger.entry(record.id).asleep_because
            return "cold: wakes at the next call" + (f" ({because})" if because else "")
        return ""

    # --- for the manager: `thermal.manager.Sandboxes`

    def running(self) -> Iterator[Subject]:
        """See `Sandboxes`."""
        for record in list(self._catalogue):
            if record.status is Status.RUNNING:
                yield self._subject(record)

    async def facts(self, sandbox_id: str) -> Facts:
        """See `Sandboxes`."""
        try:
            link = self._engine.link(sandbox_id)
        except Conflict:  # halted by other hands, or dead
            machine = await self._engine.status(sandbox_id)
            self._ledger.entry(sandbox_id).warm = machine.temperature is Temperature.WARM
            raise
        return await link.facts()

    async def pause(self, sandbox_id: str, reason: str, still_idle: Callable[[], bool]) -> None:
        """See `Sandboxes`."""
        await self._power.doze(self._catalogue.find(sandbox_id), reason, still_idle)

    async def stop(self, sandbox_id: str, reason: str, still_idle: Callable[[], bool]) -> None:
        """See `Sandboxes`."""
        await self._power.sleep(self._catalogue.find(sandbox_id), reason, still_idle)

    def _subject(self, record: Record) -> Subject:
        wanted, able = record.preferences, self._engine.capabilities
        limits = Limits(
            warm_after_s=self._settings.warm_after_s if wanted.warm_after_s is None else wanted.warm_after_s,
            cold_after_s=self._settings.cold_after_s if wanted.cold_after_s is None else wanted.cold_after_s,
            unanswered_limit=self._settings.unanswered_limit,
            can_pause=able.pause,
            can_stop=able.memory_snapshot,
        )
        return Subject(id=record.id, name=record.name, keep_hot=wanted.keep_hot, limits=limits)
