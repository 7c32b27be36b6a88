"""The order that makes a sandbox: journal, volumes, engine, journal; and its undoing, from wherever it has failed."""

import logging
import time
from collections.abc import Awaitable, Callable

import anyio
import msgspec

from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.exclusive import Claims, exclusive
from bhatti.daemon.recovery import facts_of
from bhatti.daemon.volumes import Volumes
from bhatti.engines.base import Engine, Machine
from bhatti.errors import BhattiError
from bhatti.store.journal import Journal
from bhatti.store.sandboxes import Record
from bhatti.thermal.ledger import Ledger

log = logging.getLogger(__name__)

CANCELLED = "called off: whoever asked for it has left, or the daemon was stopped"
"""What is written down of a creation that did not fail."""


class Making:
    """Carries out creations. `serving` returns journal and engine, also while the daemon stops."""

    def __init__(
        self,
        serving: Callable[[], tuple[Journal, Engine]],
        catalogue: Catalogue,
        claims: Claims,
        volumes: Volumes,
        ledger: Ledger,
    ) -> None:
        self.claims = claims
        self._serving = serving
        self._catalogue = catalogue
        self._volumes = volumes
        self._ledger = ledger

    @exclusive(per="sandbox", busy="reject")
    async def create(self, record: Record, work: Callable[[], Awaitable[Machine]]) -> Machine:
        """Make the machine of a reserved row by `work`; raises what that raises, with nothing of it left."""
        journal, _ = self._serving()
        began = time.monotonic()
        made = False
        try:
            await journal.begin_create(record)
            await self._volumes.make_for(record)
            machine = await work()
            made = True
            running = msgspec.structs.replace(record, status=machine.status, facts=facts_of(machine))
            await journal.finish_create(running, self._volumes.made_for(record))
        except BaseException as err:
            with anyio.CancelScope(shield=True):
                await self._undo(record, made, err)
            raise
        self._catalogue.put(running)
        self._volumes.keep_for(record)
        self._ledger.awake(record.id)
        log.info(
            "created", extra={"id": record.id, "sandbox": record.name, "ms": round((time.monotonic() - began) * 1000)}
        )
        return machine

    async def _undo(self, record: Record, made: bool, why: BaseException) -> None:
        journal, engine = self._serving()
        # What a cancellation says of itself is about tasks and scopes: words for nobody.
        cancelled = isinstance(why, anyio.get_cancelled_exc_class())
        reason = CANCELLED if cancelled else str(why) or type(why).__name__
        log.info("creation undone", extra={"id": record.id, "sandbox": record.name, "why": reason})
        try:
            if made:
                await engine.destroy(record.id)
            await journal.undo_create(record.id, reason)
            await self._volumes.unmake_for(record)
        except BhattiError:
            # The intent stays in the journal: the next start finishes this.
            log.exception("could not undo the creation of sandbox %s; the next start will", record.id)
        finally:
            self._catalogue.drop(record.id)
