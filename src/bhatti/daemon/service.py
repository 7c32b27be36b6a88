"""The daemon's work: store, engine and images tied together behind the interface that the server uses.

Theory of operation. The store says what was promised, the engine what is; the catalogue holds the former in memory.
Orders that change the world (create, destroy) go journal → engine → journal, in the daemon's own task group
(`orders`), one at a time per sandbox (`exclusive`). Reading a sandbox asks the engine how its machine is, and writes
down what has changed: that is how a death is noticed.
"""

import contextlib
import datetime
import logging
import os
import platform
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal

import msgspec
from anyio import to_thread
from anyio.abc import TaskGroup

from bhatti.daemon import answers, builds, doctor, editing
from bhatti.daemon.accounts import AccountBook
from bhatti.daemon.belongings import Belongings
from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.checkpoints import Checkpoints
from bhatti.daemon.creating import Creating
from bhatti.daemon.exclusive import Claims, exclusive
from bhatti.daemon.following import Following
from bhatti.daemon.forks import Forks
from bhatti.daemon.imaging import Imaging
from bhatti.daemon.making import Making
from bhatti.daemon.memory import MemoryBudget, host_memory_mib
from bhatti.daemon.orders import Orders, stopping
from bhatti.daemon.owned_images import OwnedImages
from bhatti.daemon.power import OF_THE_DAEMON, Power
from bhatti.daemon.publishing import Publishing
from bhatti.daemon.recovery import Recovery
from bhatti.daemon.secrets import Secrets
from bhatti.daemon.settings import Settings
from bhatti.daemon.sleeping import Sleeping
from bhatti.daemon.tasks import Tasks
from bhatti.daemon.templates import Templates
from bhatti.daemon.volumes import Volumes
from bhatti.daemon.watching import Watching
from bhatti.engines.base import Engine, Machine
from bhatti.errors import BhattiError, InvalidRequest, NotFound, Unavailable
from bhatti.model.sandbox import Status
from bhatti.model.user import ADMIN, Caller
from bhatti.operations import table, types
from bhatti.server.accounts import Accounts
from bhatti.server.backend import AS_IT_CAN, EVERYONE, SOMEHOW, Visitor
from bhatti.store.journal import Journal, destroyed
from bhatti.store.sandboxes import Record, now
from bhatti.thermal.ledger import Ledger

log = logging.getLogger(__name__)

DESTROYED_KEPT = datetime.timedelta(days=7)
"""How long the last words of a destroyed sandbox are kept in the store."""


class Service(Creating, Imaging, Belongings):
    """One daemon's work. `start` makes it ready; until then, and after `stop`, it refuses politely."""

    def __init__(self, settings: Settings, version: str, tasks: TaskGroup) -> None:
        self.settings = settings
        self.claims = Claims()
        self._version = version
        self._began = time.monotonic()
        self._orders = Orders(tasks)
        self._accounts = AccountBook(settings.rates)
        self._catalogue = Catalogue(admit=self._admit)
        self._memory = MemoryBudget(
            settings.limits,
            host_memory_mib(),
            lambda: self._catalogue,
            lambda: self._serving_or_stopping()[1].ready_mib,
        )
        self._volumes = Volumes(self._orders, self._catalogue, self._accounts.check_storage)
        self._secrets = Secrets(Path(settings.state_dir), lambda: self._serving()[0].secrets, self._orders)
        self._templates = Templates(lambda: self._serving()[0].templates)
        self._forks = Forks(self.claims)
        self._parts: tuple[Journal, Engine] | None = None
        self._stopping = False
        self._watch = Watching(settings, self._catalogue)
        self._checkpoints = Checkpoints(self.claims, self._watch, self._catalogue, self._accounts.check_snapshots)
        self._images = builds.RecordedImages(settings, self._orders, self._watch)
        self._owned_images = OwnedImages(self._images, self._accounts.check_images, settings.user_registries)
        self._jobs = Tasks(self._orders)
        self._edits = editing.Edits(self.claims, self._catalogue)
        self._following = Following(self._serving, self._catalogue, self.claims)
        self._ledger = Ledger()
        self._power = Power(
            self._serving_or_stopping,
            self._catalogue,
            self.claims,
            self._orders,
            self._ledger,
            self._watch,
            self._following.look,
            self._memory,
        )
        self._publishing = Publishing(
            settings.gateway,
            self._catalogue,
            self._orders,
            self.visit,
            self._accounts.check_published,
            self._watch.answered,
        )
        self._making = Making(self._serving_or_stopping, self._catalogue, self.claims, self._volumes, self._ledger)
        self._sleeping: Sleeping | None = None
        self._tasks = tasks

    async def start(self, journal: Journal, engine: Engine) -> None:
        """Recover what an earlier daemon left, then serve. `engine` has been entered."""
        deaths, engine = engine.deaths, self._watch.timed(engine)
        self._watch.recovered(await Recovery(journal, engine).run())
        await journal.forget_destroyed(now() - DESTROYED_KEPT)
        for record in await journal.sandboxes():
            self._catalogue.put(record)
        await self._volumes.start(journal.volumes, engine)
        await self._jobs.start(journal.tasks)
        await self._secrets.start(journal.secrets)
        await self._watch.begin(journal, engine)
        await self._publishing.start(journal)
        await self._accounts.start(journal, self._catalogue, self._volumes, self._owned_images, self._end)
        self._sleeping = Sleeping(self.settings.thermal, engine, self._catalogue, self._power, self._ledger)
        await self._sleeping.recover()
        self._parts = journal, engine
        self._tasks.start_soon(self._sleeping.run)
        self._following.listen(deaths, self._tasks)
        log.info("ready", extra={"sandboxes": len(self._catalogue), "engine": engine.name})

    @property
    def watch(self) -> Watching:
        """See `Backend`."""
        return self._watch

    def refuse(self) -> None:
        """From now on, refuse new requests as `stopping`."""
        self._stopping = True
        self._watch.end()
        self._jobs.end()

    async def stop(self) -> None:
        """Let the orders under way come to an end, and end all sandboxes if so set."""
        self.refuse()
        if self._sleeping is not None:
            await self._sleeping.aclose()
        await self._orders.close(self.settings.drain_s)
        if self.settings.stop_all and self._parts is not None:
            for record in list(self._catalogue):
                try:
                    await self._destroy(record)
                except BhattiError:
                    log.exception("could not end sandbox %s; the next start knows of it", record.id)

    @property
    def accounts(self) -> Accounts:
        """See `Backend`."""
        return self._accounts

    def resolve(self, caller: Caller, ref: str) -> str:
        """See `Backend`."""
        return self._catalogue_of_served().find(ref, caller).id

    def health(self) -> types.Health:
        """See `Backend`."""
        return types.Health(
            status=self._status(),
            sandboxes=len(self._catalogue),
            uptime=round(time.monotonic() - self._began, 3),
        )

    def _status(self) -> Literal["ok", "starting", "stopping", "damaged"]:
        if self._stopping:
            return "stopping"
        if self._parts is None:
            return "starting"
        return "damaged" if self._parts[0].damaged else "ok"

    def version(self) -> types.Version:
        """See `Backend`."""
        return types.Version(
            version=self._version,
            api=table.API_REVISION,
            engine=self._parts[1].name if self._parts and self.settings.engine == "auto" else self.settings.engine,
            python=platform.python_version(),
            pid=os.getpid(),
            can=None if self._parts is None else msgspec.to_builtins(self._parts[1].capabilities),
        )

    async def doctor(self) -> types.DoctorReport:
        """See `Backend`."""
        return await to_thread.run_sync(doctor.examine, self.settings)

    # --- orders

    def _admit(self, record: Record, owned: list[Record]) -> None:
        self._accounts.admit(record, owned)
        self._memory.check(record)

    async def stop_sandbox(self, ref: str, request: types.SandboxStop = AS_IT_CAN) -> types.Sandbox:
        """See `Backend`."""
        return await self._ordered(ref, lambda record: self._power.stop(record, memory=request.memory))

    async def start_sandbox(self, ref: str, request: types.SandboxStart = SOMEHOW) -> types.Sandbox:
        """See `Backend`."""
        if request.memory and request.force:
            raise InvalidRequest(
                "memory and force cannot both be: one refuses to start without its memory, the other does not mind",
                hint="leave one out",
                code="bad-start",
            )
        return await self._ordered(ref, lambda record: self._power.start(record, memory=request.memory))

    async def pause_sandbox(self, ref: str) -> types.Sandbox:
        """See `Backend`."""
        return await self._ordered(ref, self._power.pause)

    async def resume_sandbox(self, ref: str) -> types.Sandbox:
        """See `Backend`."""
        return await self._ordered(ref, self._power.resume)

    async def _ordered(self, ref: str, order: Callable[[Record], Awaitable[Machine]]) -> types.Sandbox:
        record = self._catalogue_of_served().find(ref)
        machine = await order(record)
        return self._answer(self._catalogue.find(record.id), machine)

    async def edit(self, ref: str, request: types.SandboxEdit) -> types.Sandbox:
        """See `Backend`."""
        record = self._catalogue_of_served().find(ref)
        journal, _ = self._serving()
        await self._orders.run(lambda: self._edits.edit(record, journal, request), undo_when_left=False)
        return await self.sandbox(record.id)

    async def destroy(self, ref: str) -> None:
        """See `Backend`."""
        await self._end(self._catalogue_of_served().find(ref))

    async def _end(self, record: Record) -> None:
        await self.claims.free(record.id, of=OF_THE_DAEMON)
        await self._orders.run(lambda: self._destroy(record), undo_when_left=False)

    @exclusive(per="sandbox", busy="reject")
    async def _destroy(self, record: Record) -> None:
        journal, engine = self._serving_or_stopping()
        await journal.begin_destroy(record.id)
        with contextlib.suppress(NotFound):  # its machine was gone already; the row goes too
            await engine.destroy(record.id)
        gone = destroyed(self._catalogue.find(record.id))
        await journal.finish_destroy(gone)
        self._catalogue.put(gone)
        self._power.forget(record.id)
        self._publishing.forget(record.id)
        log.info("destroyed", extra={"id": record.id, "sandbox": gone.name})

    # --- checkpoints and snapshots

    async def checkpoint(self, ref: str, name: str) -> types.Checkpoint:
        """See `Backend`."""
        record = self._catalogue_of_served().find(ref)
        _, engine = self._serving()
        async with self._power.held_hot(record, "checkpoint"):
            return await self._orders.run(
                lambda: self._checkpoints.checkpoint(record, engine, name), undo_when_left=False
            )

    async def checkpoints(self, ref: str) -> list[types.Checkpoint]:
        """See `Backend`."""
        _, engine = self._serving()
        return await self._checkpoints.list(self._catalogue.find(ref), engine)

    async def restore_checkpoint(self, ref: str, name: str) -> types.Sandbox:
        """See `Backend`."""
        return await self._ordered(ref, lambda record: self._power.order(record, lambda: self._restore(record, name)))

    @exclusive(per="sandbox", busy="reject")
    async def _restore(self, record: Record, name: str) -> Machine:
        _, engine = self._serving()
        with self._memory.promised(record):
            machine = await engine.restore_checkpoint(record.id, name)
            self._ledger.awake(record.id)
            return await self._power.became(record, machine, "put-back", machine.why)

    async def remove_checkpoint(self, ref: str, name: str) -> None:
        """See `Backend`."""
        record = self._catalogue_of_served().find(ref)
        _, engine = self._serving()
        await self._orders.run(lambda: self._checkpoints.prune(record, engine, name), undo_when_left=False)

    async def verify_snapshot(self, ref: str, request: types.SnapshotVerify) -> types.SnapshotReport:
        """See `Backend`."""
        _, engine = self._serving()
        return await self._checkpoints.verify(self._catalogue.find(ref), engine, probe=request.probe)

    # --- looking

    async def sandboxes(self, query: types.SandboxFilter = EVERYONE, caller: Caller = ADMIN) -> list[types.Sandbox]:
        """See `Backend`."""
        _, engine = self._serving()
        records = answers.newest_first(self._catalogue)  # before the machines are looked at: see `Following.follow`
        machines = {machine.id: machine for machine in await engine.list()}
        found = []
        for record in records:
            if caller.may_see(record.owner) and editing.has_label(record, query.label):
                machine = machines.get(record.id)
                followed = await self._following.follow(record, machine)
                if self._catalogue.get(record.id) is not None:  # else it was destroyed meanwhile
                    found.append(self._answer(followed, machine))
        return found

    async def sandbox(self, ref: str) -> types.Sandbox:
        """See `Backend`."""
        record, machine = await self._following.look(self._catalogue_of_served().find(ref))
        return self._answer(record, machine)

    def _answer(self, record: Record, machine: Machine | None) -> types.Sandbox:
        reason = "" if self._sleeping is None else self._sleeping.reason(record, machine)
        return answers.sandbox(record, machine, reason)

    def visit(self, ref: str, doing: str, *, wake: bool = True) -> AbstractAsyncContextManager[Visitor]:
        """See `Backend`."""
        return self._power.visit(self._catalogue_of_served().find(ref), doing, wake=wake)

    async def explain(self, ref: str, error: Exception) -> Exception:
        """See `Backend`."""
        if not isinstance(error, Unavailable):
            return error
        try:
            record, _ = await self._following.look(self._catalogue_of_served().find(ref))
        except BhattiError as err:
            return err
        return error if record.status is Status.RUNNING else answers.not_running(record)

    # --- readiness

    def _serving(self) -> tuple[Journal, Engine]:
        if self._stopping:
            raise stopping()
        return self._serving_or_stopping()

    def _serving_or_stopping(self) -> tuple[Journal, Engine]:
        if self._parts is None:
            raise Unavailable(
                "the daemon is starting: it looks after what an earlier one left",
                hint="try again in a moment",
                code="starting",
            )
        return self._parts

    def _catalogue_of_served(self) -> Catalogue:
        self._serving()
        return self._catalogue
