"""What there is to see of the daemon's work: events, figures, a copy of the store.

It is there before the daemon has recovered, because figures are taken from the first moment; what needs the store is
refused until then as everything else is.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from anyio import to_thread

from bhatti.daemon import backup
from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.feed import Feed, wanted_by
from bhatti.daemon.metrics import Metrics
from bhatti.daemon.orders import stopping
from bhatti.daemon.recovery import Action
from bhatti.daemon.settings import Settings
from bhatti.engines.base import Engine, Machine
from bhatti.errors import BhattiError, Unavailable
from bhatti.model.sandbox import Temperature
from bhatti.model.user import ADMIN, Caller
from bhatti.operations import types
from bhatti.server.backend import Watch
from bhatti.server.call import CURRENT
from bhatti.store.journal import Journal


class Watching(Watch):
    """Everything that is seen of one daemon. `begin` when it has recovered, `end` when it stops."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._directory = Path(settings.state_dir)
        self._catalogue = catalogue
        self._metrics = Metrics()
        self._parts: tuple[Journal, Engine, Feed] | None = None
        self._ended = False

    def timed(self, engine: Engine) -> Engine:
        """Return `engine`, its calls timed from now on."""
        return self._metrics.timed(engine)

    def recovered(self, actions: Iterable[Action]) -> None:
        """Count what a start has found."""
        self._metrics.recovered(actions)

    async def begin(self, journal: Journal, engine: Engine) -> None:
        """Serve from now on."""
        await to_thread.run_sync(backup.sweep, self._directory)
        self._parts = journal, engine, Feed(journal)

    def end(self) -> None:
        """End all streams; refuse what comes from now on."""
        self._ended = True
        if self._parts is not None:
            self._parts[2].close()

    def woken(self) -> None:
        """Count a sandbox that was woken by the operation that is being served."""
        self._metrics.woken(CURRENT.get().operation)

    async def happened(self, kind: str, detail: str, sandbox_id: str | None = None) -> None:
        """Write down what changes no sandbox's row; before recovery is over, nothing can be written."""
        if self._parts is not None:
            await self._parts[0].happened(kind, detail, sandbox_id)

    async def stopped(self, machine: Machine) -> Machine:
        """Count the size of the snapshot that a machine has been stopped to, where its engine can tell; return it."""
        if self._parts is not None and self._parts[1].capabilities.memory_snapshot:
            engine = self._parts[1]
            with contextlib.suppress(BhattiError):  # stopped without memory, for one: there is nothing to count
                report = await engine.verify_snapshot(machine.id)
                if report.usable:
                    self._metrics.snapshot(engine.name, report.size_bytes)
        return machine

    async def events(self, query: types.EventsQuery, caller: Caller = ADMIN) -> list[types.LoggedEvent]:
        """See `Watch`."""
        return await self._begun()[2].list(query, wanted_by(query, self._catalogue, caller))

    async def follow_events(
        self, query: types.EventsQuery, caller: Caller = ADMIN
    ) -> AsyncGenerator[types.NewsEvent, None]:
        """See `Watch`."""
        return self._begun()[2].follow(query.since, wanted_by(query, self._catalogue, caller))

    async def metrics(self) -> bytes:
        """See `Watch`."""
        _, engine, _ = self._begun()
        machines = {machine.id: machine.temperature for machine in await engine.list()}
        return self._metrics.render((r.status, machines.get(r.id, Temperature.COLD)) for r in self._catalogue)

    def backup(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """See `Watch`."""
        return backup.copied(self._begun()[0], self._directory)

    def answered(self, operation: str, status: int, seconds: float) -> None:
        """See `Watch`."""
        self._metrics.answered(operation, status, seconds)

    def _begun(self) -> tuple[Journal, Engine, Feed]:
        if self._ended:
            raise stopping()
        if self._parts is None:
            raise Unavailable("the daemon is starting", hint="try again in a moment", code="starting")
        return self._parts
