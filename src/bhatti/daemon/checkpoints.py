"""Checkpoints of sandboxes, and what is known of their memory: each order alone with its sandbox."""

import contextlib
from collections.abc import Callable

import anyio

from bhatti.daemon import answers
from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.exclusive import Claims, exclusive
from bhatti.daemon.watching import Watching
from bhatti.engines.base import Engine
from bhatti.errors import Conflict, NotFound
from bhatti.model.sandbox import Status, Temperature
from bhatti.operations import types
from bhatti.store.sandboxes import Record

Within = Callable[[str, int], None]
"""Called with an owner and how many checkpoints they have; raises if they may not have one more."""


class Checkpoints:
    """What the daemon does with an engine's checkpoints. The engine keeps them beside the machine they are of."""

    def __init__(self, claims: Claims, watch: Watching, catalogue: Catalogue, within: Within) -> None:
        self.claims = claims
        self._watch = watch
        self._catalogue = catalogue
        self._within = within
        self._turns: dict[str, anyio.Lock] = {}

    @exclusive(per="sandbox", busy="reject")
    async def checkpoint(self, record: Record, engine: Engine, name: str) -> types.Checkpoint:
        """Keep a copy of a sandbox, made hot for it; raises like `Engine.checkpoint`, and `LimitExceeded`."""
        if not record.owner:
            return await self._checkpoint(record, engine, name)
        # The engine alone knows how many there are, and has to be asked: one user's copies are made one by one.
        async with self._turns.setdefault(record.owner, anyio.Lock()):
            self._within(record.owner, await self._count(record.owner, engine))
            return await self._checkpoint(record, engine, name)

    async def _count(self, owner: str, engine: Engine) -> int:
        taken = 0
        for record in self._catalogue.owned(owner):
            with contextlib.suppress(NotFound):  # one that is being made, or whose machine is gone
                taken += len(await engine.checkpoints(record.id))
        return taken

    async def _checkpoint(self, record: Record, engine: Engine, name: str) -> types.Checkpoint:
        if (await engine.status(record.id)).temperature is Temperature.WARM:
            await engine.resume(record.id)
        made = answers.checkpoint(await engine.checkpoint(record.id, name))
        await self._watch.happened("checkpoint-made", name, record.id)
        return made

    async def list(self, record: Record, engine: Engine) -> list[types.Checkpoint]:
        """Return what there is; raises like `Engine.checkpoints`."""
        return [answers.checkpoint(found) for found in await engine.checkpoints(record.id)]

    @exclusive(per="sandbox", busy="reject")
    async def prune(self, record: Record, engine: Engine, name: str) -> None:
        """Remove a checkpoint; raises like `Engine.remove_checkpoint`."""
        await engine.remove_checkpoint(record.id, name)
        await self._watch.happened("checkpoint-removed", name, record.id)

    @exclusive(per="sandbox", busy="reject")
    async def verify(self, record: Record, engine: Engine, *, probe: bool) -> types.SnapshotReport:
        """Check the memory of a sandbox that is stopped; raises `Conflict` (code `illegal-transition`) otherwise."""
        if record.status is not Status.STOPPED:
            raise Conflict(
                f"sandbox {record.name!r} is {record.status}: only a stopped one has a memory snapshot",
                hint=f"`bhatti stop {record.name}` makes one",
                code="illegal-transition",
            )
        return answers.snapshot_report(await engine.verify_snapshot(record.id, content=True, probe=probe))
