"""Volumes: made, grown, cloned and removed; given to sandboxes, one writer or any number of readers at a time.

Theory of operation. Who has a volume is not written down anywhere but in the sandboxes themselves: those of the
catalogue, asleep and failed ones included. Looking there and taking a place in it are one step of the event loop, so
two requests for one volume meet here, and one of them is refused. Volumes that are made for a sandbox belong to the
order that makes it, and go again if that fails. A row is `creating` before anything is made and `removing` before
anything goes: what a killed daemon leaves in these states, the next one removes. So a volume that is made for a sandbox
stays `creating` until both are written down as made, in one step.
"""

import builtins
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Iterator

import anyio
import msgspec

from bhatti.daemon.attachments import DEFAULT_SIZE_MIB, Wanted, check_free, holders
from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.orders import Orders
from bhatti.daemon.owned_volumes import OwnedVolumes, owner_of
from bhatti.engines.base import Engine
from bhatti.engines.volumes import VolumeKeeper, VolumeUse
from bhatti.errors import BhattiError, Busy, Conflict, InvalidRequest, NotFound, OutOfSpace, Unavailable, shortened
from bhatti.model.sandbox import VolumeAttachment, VolumeStatus, checked_name
from bhatti.model.user import Caller
from bhatti.operations import types
from bhatti.server.volumes import VolumeBackend
from bhatti.store.sandboxes import Record, now
from bhatti.store.volume_journal import VolumeJournal
from bhatti.store.volumes import VolumeRecord

log = logging.getLogger(__name__)


Within = Callable[[str, int, int], None]
"""Called with an owner, the MiB that they have, and those that they ask for; raises if that is more than they may."""


class Volumes(VolumeBackend):
    """The volumes that there are. `start` makes it ready."""

    def __init__(self, orders: Orders, catalogue: Catalogue, within: Within = lambda owner, taken, asked: None) -> None:
        self._within = within
        self._growing: dict[str, int] = {}
        self._orders = orders
        self._catalogue = catalogue
        self._records: dict[str, VolumeRecord] = {}
        self._busy: dict[str, str] = {}
        self._fresh: dict[str, list[VolumeRecord]] = {}
        self._parts: tuple[VolumeJournal, Engine] | None = None

    async def start(self, journal: VolumeJournal, engine: Engine) -> None:
        """Remove what an earlier daemon left half made or half removed, and take up the rest."""
        self._parts = journal, engine
        rows = await journal.everything()
        if not rows:
            with contextlib.suppress(InvalidRequest):  # an engine without volumes has nothing to sweep
                await engine.volumes.sweep()
            return
        await engine.volumes.sweep()
        for record in rows:
            self._records[record.name] = record
            try:
                await self._recover(record)
            except BhattiError:
                log.exception("volume %s is left as it is", record.name)

    async def _recover(self, record: VolumeRecord) -> None:
        _, engine = self._opened()
        if record.engine != engine.name:
            return
        if record.status is not VolumeStatus.READY:
            log.info("volume %s was left %s: removed", record.name, record.status)
            await self._forget(record, "volume-removed")
            return
        size_mib = await engine.volumes.size_mib(record.name)
        if size_mib is not None and size_mib != record.size_mib:  # killed between growing it and writing that down
            await self._note(msgspec.structs.replace(record, size_mib=size_mib))

    # --- for sandboxes

    async def look(self) -> VolumeUse:
        """Return how much space there is, for `claim`."""
        return await self._keeper().use()

    def claim(self, sandbox: Record, wanted: Wanted, space: VolumeUse | None) -> None:
        """Let a sandbox, which has its place in the catalogue, have the volumes it wants; or drop it and raise.

        Those that are missing and may be made are reserved: `make_for` makes them, `unmake_for` takes them back.
        Raises `NotFound` (code `volume-not-found`), `Conflict` (code `volume-in-use`), `Busy`, `OutOfSpace`.
        """
        try:
            self._claim(sandbox, wanted, space)
        except BhattiError:
            self._catalogue.drop(sandbox.id)
            raise

    def _claim(self, sandbox: Record, wanted: Wanted, space: VolumeUse | None) -> None:
        others = [record for record in self._catalogue if record.id != sandbox.id]
        missing = []
        for asked in sandbox.spec.volumes:
            check_free(others, asked)
            if asked.name in self._records or asked.name not in wanted.sizes_mib:
                self._idle(asked.name)
            else:
                missing.append(asked.name)
        if missing:
            assert space is not None
            self._admit(sum(wanted.sizes_mib[name] for name in missing), space)
            self._grow(sandbox.owner, sum(wanted.sizes_mib[name] for name in missing))
            self._fresh[sandbox.id] = [self._reserve(name, wanted.sizes_mib[name]) for name in missing]

    async def make_for(self, sandbox: Record) -> None:
        """Make the volumes that were reserved for a sandbox; whatever is raised, call `unmake_for`."""
        for record in self._fresh.get(sandbox.id, ()):
            await self._make(record, functools.partial(_created, record))

    def made_for(self, sandbox: Record) -> builtins.list[VolumeRecord]:
        """Return what `make_for` has made, as it is to be written down together with the sandbox."""
        return [_ready(record) for record in self._fresh.get(sandbox.id, ())]

    def keep_for(self, sandbox: Record) -> None:
        """The sandbox is made and written down: what was made for it stays."""
        for record in self._fresh.pop(sandbox.id, ()):
            self._has_come(_ready(record))

    async def unmake_for(self, sandbox: Record) -> None:
        """The sandbox could not be made: nor were the volumes."""
        for record in self._fresh.pop(sandbox.id, ()):
            await self._undo(record)

    # --- for people

    def owned(self, owner: str) -> builtins.list[str]:
        """Return the names of the volumes of an owner, in whatever state they are."""
        return sorted(name for name in self._records if owner_of(name) == owner)

    def of(self, caller: Caller) -> VolumeBackend:
        """See `VolumeBackend`."""
        return self if caller.admin else OwnedVolumes(self, caller.owner)

    async def create(self, request: types.VolumeCreate) -> types.Volume:
        """See `VolumeBackend`."""
        name = checked_name(request.name, "a volume")
        space = await self._keeper().use()
        found = self._records.get(name)
        if found is not None and found.status is VolumeStatus.READY and request.size_mb is None:
            return self._answer(found, space)  # as the reference does: whoever names no size wants it to be there
        size_mib = request.size_mb or DEFAULT_SIZE_MIB
        if found is None:
            self._admit(size_mib, space)
            self._grow(owner_of(name), size_mib)
        record = self._reserve(name, size_mib)
        await self._ordered(record, functools.partial(_created, record))
        return await self.get(name)

    async def list(self) -> list[types.Volume]:
        """See `VolumeBackend`."""
        if not self._records:
            return []
        space = await self._keeper().use()
        return [self._answer(self._records[name], space) for name in sorted(self._records)]

    async def get(self, name: str) -> types.Volume:
        """See `VolumeBackend`."""
        record = self._find(name)
        return self._answer(record, await self._keeper().use())

    async def remove(self, name: str) -> None:
        """See `VolumeBackend`."""
        record = self._find(name)
        if record.status is not VolumeStatus.REMOVING:  # one that could not be removed can be tried again
            self._idle(name)
        self._unused(name)
        await self._orders.run(lambda: self._remove(record), undo_when_left=False)

    async def resize(self, name: str, request: types.VolumeResize) -> types.Volume:
        """See `VolumeBackend`."""
        space = await self._keeper().use()
        record = self._idle(name)
        self._unused(name)
        if request.size_mb < record.size_mib:
            raise InvalidRequest(
                f"volume {name!r} has {record.size_mib} MiB and cannot be made smaller",
                hint="make another one and copy what is in it",
                code="bad-size",
            )
        # It is done on a copy, which takes as much again as there is in it.
        self._admit(request.size_mb - record.size_mib + space.used_mib.get(name, 0), space)
        if request.size_mb > record.size_mib:
            await self._orders.run(lambda: self._resize(record, request.size_mb), undo_when_left=False)
        return await self.get(name)

    async def clone(self, name: str, request: types.VolumeClone) -> types.Volume:
        """See `VolumeBackend`."""
        new = checked_name(request.name, "a volume")
        space = await self._keeper().use()
        source = self._idle(name)
        check_free(self._catalogue, VolumeAttachment(name, "", read_only=True))
        self._admit(source.size_mib, space)
        self._grow(owner_of(new), source.size_mib)
        record = self._reserve(new, source.size_mib)
        with self._held(name, "clone"):
            await self._ordered(record, lambda keeper: keeper.clone(name, new))
        return await self.get(new)

    # --- orders

    async def _ordered(self, record: VolumeRecord, make: Callable[[VolumeKeeper], Awaitable[None]]) -> None:
        """Make a volume that has been reserved, in the daemon's own task; undone when the caller leaves."""

        async def order() -> None:
            try:
                await self._make(record, make)
                journal, _ = self._opened()
                await journal.finish(_ready(record))
                self._has_come(_ready(record))
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._undo(record)
                raise

        await self._orders.run(order, undo_when_left=True)

    async def _make(self, record: VolumeRecord, make: Callable[[VolumeKeeper], Awaitable[None]]) -> None:
        journal, engine = self._opened()
        with contextlib.suppress(NotFound):
            await engine.volumes.size_mib(record.name)
            raise Conflict(
                f"there is a volume {record.name!r} which the store does not know",
                hint=f"choose another name, or move its file out of {engine.name}'s way",
                code="volume-exists",
            )
        await journal.begin(record)
        await make(engine.volumes)

    def _has_come(self, record: VolumeRecord) -> None:
        self._records[record.name] = record
        log.info("volume created", extra={"volume": record.name, "mib": record.size_mib})

    async def _undo(self, record: VolumeRecord) -> None:
        """Take back a volume that was being made, unless nothing of it is ours."""
        journal, _ = self._opened()
        try:
            if record.name in {row.name for row in await journal.everything()}:
                await self._forget(record, "volume-undone")
        except BhattiError:
            # Its row stays as it is: the next start finishes this.
            log.exception("could not undo the creation of volume %s; the next start will", record.name)
        else:
            self._records.pop(record.name, None)

    async def _remove(self, record: VolumeRecord) -> None:
        with self._held(record.name, "remove"):
            self._unused(record.name)
            await self._note(msgspec.structs.replace(record, status=VolumeStatus.REMOVING))
            await self._forget(record, "volume-removed")

    async def _resize(self, record: VolumeRecord, size_mib: int) -> None:
        with self._held(record.name, "resize"):
            self._unused(record.name)
            self._grow(owner_of(record.name), size_mib - record.size_mib)
            self._growing[record.name] = size_mib
            try:
                await self._keeper().resize(record.name, size_mib)
                await self._note(msgspec.structs.replace(record, size_mib=size_mib), "volume-resized")
            finally:
                del self._growing[record.name]

    async def _note(self, record: VolumeRecord, kind: str = "") -> None:
        journal, _ = self._opened()
        await journal.note(record, kind, str(record))
        self._records[record.name] = record

    async def _forget(self, record: VolumeRecord, kind: str) -> None:
        journal, engine = self._opened()
        with contextlib.suppress(NotFound):
            await engine.volumes.remove(record.name)
        await journal.forget(record, kind, record.name)
        self._records.pop(record.name, None)

    # --- who may what

    def _find(self, name: str) -> VolumeRecord:
        self._opened()
        if (record := self._records.get(name)) is None:
            shown = shortened(name)
            raise NotFound(
                f"there is no volume {shown!r}",
                hint="`bhatti volume ls` shows what there is; `bhatti volume create` makes one",
                code="volume-not-found",
            )
        return record

    def _idle(self, name: str) -> VolumeRecord:
        """Return a volume that can be used, or raise `Busy` if something is being done to it."""
        record = self._find(name)
        _, engine = self._opened()
        if record.engine != engine.name:
            raise Conflict(
                f"volume {name!r} belongs to the engine {record.engine!r}, not to {engine.name!r}",
                hint="use a volume of this engine, or start the daemon with that one",
                code="other-engine",
            )
        doing = self._busy.get(name) or {VolumeStatus.CREATING: "create", VolumeStatus.REMOVING: "remove"}.get(
            record.status
        )
        if doing:
            raise Busy(f"volume {name!r} is busy: {doing} is under way", hint="try again in a moment")
        return record

    def _unused(self, name: str) -> None:
        if found := holders(self._catalogue, name):
            names = ", ".join(repr(record.name) for record, _ in found[:5])
            raise Conflict(
                f"volume {name!r} is in use by sandbox {names}",
                hint=f"`bhatti rm {found[0][0].name}` frees it",
                code="volume-in-use",
            )

    def _reserve(self, name: str, size_mib: int) -> VolumeRecord:
        """Take a name; raises `Conflict` (code `volume-exists`)."""
        _, engine = self._opened()
        if name in self._records:
            raise Conflict(
                f"there is a volume {name!r} already, of {self._records[name].size_mib} MiB",
                hint="choose another name",
                code="volume-exists",
            )
        record = self._records[name] = VolumeRecord(
            name=name, owner=owner_of(name), engine=engine.name, size_mib=size_mib, created_at=now()
        )
        return record

    def _grow(self, owner: str, more_mib: int) -> None:
        """Raise `LimitExceeded` if that is more than the owner may have, what is being made larger included."""
        theirs = (record for record in self._records.values() if owner_of(record.name) == owner)
        taken = sum(self._growing.get(record.name, record.size_mib) for record in theirs)
        self._within(owner, taken, more_mib)

    def _admit(self, more_mib: int, space: VolumeUse) -> None:
        """Raise `OutOfSpace` unless the disk has what all volumes may still take, and `more_mib`."""
        promised = sum(
            max(0, record.size_mib - space.used_mib.get(record.name, 0)) for record in self._records.values()
        )
        if promised + more_mib > space.free_mib:
            raise OutOfSpace(
                f"no room for {more_mib} MiB: the disk has {space.free_mib} MiB free, of which {promised} MiB are "
                "promised to other volumes",
                hint="free disk space, remove volumes, or ask for less",
            )

    @contextlib.contextmanager
    def _held(self, name: str, what: str) -> Iterator[None]:
        self._idle_or_removing(name)
        self._busy[name] = what
        try:
            yield
        finally:
            del self._busy[name]

    def _idle_or_removing(self, name: str) -> None:
        if name in self._busy:
            raise Busy(f"volume {name!r} is busy: {self._busy[name]} is under way", hint="try again in a moment")

    def _answer(self, record: VolumeRecord, space: VolumeUse) -> types.Volume:
        return types.Volume(
            name=record.name,
            size_mb=record.size_mib,
            created_at=record.created_at,
            status=record.status,
            used_mb=space.used_mib.get(record.name),
            attached=[
                types.VolumeAttached(
                    sandbox=sandbox.name, sandbox_id=sandbox.id, mount=held.target, read_only=held.read_only
                )
                for sandbox, held in holders(self._catalogue, record.name)
            ],
        )

    def _opened(self) -> tuple[VolumeJournal, Engine]:
        if self._parts is None:
            raise Unavailable("the daemon is starting", hint="try again in a moment", code="starting")
        return self._parts

    def _keeper(self) -> VolumeKeeper:
        return self._opened()[1].volumes


def _ready(record: VolumeRecord) -> VolumeRecord:
    return msgspec.structs.replace(record, status=VolumeStatus.READY)


async def _created(record: VolumeRecord, keeper: VolumeKeeper) -> None:
    await keeper.create(record.name, record.size_mib)
