"""Bringing rows up to date with their machines: that is how a death is noticed."""

import contextlib
import logging
from collections.abc import Callable

import msgspec
from anyio.abc import TaskGroup

from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.exclusive import Claims
from bhatti.daemon.recovery import last_words
from bhatti.engines.base import Engine, Machine
from bhatti.engines.deaths import Deaths
from bhatti.errors import NotFound, Unavailable
from bhatti.model.sandbox import Status
from bhatti.store.journal import Journal
from bhatti.store.sandboxes import Record, now

log = logging.getLogger(__name__)


class Following:
    """Looks at machines, and writes down what has become of them without an order."""

    def __init__(self, parts: Callable[[], tuple[Journal, Engine]], catalogue: Catalogue, claims: Claims) -> None:
        self._parts = parts
        self._catalogue = catalogue
        self._claims = claims

    def listen(self, deaths: Deaths, tasks: TaskGroup) -> None:
        """Look, in `tasks`, as soon as the engine hears of a death: nobody else may do so for long."""

        def heard(sandbox_id: str) -> None:
            with contextlib.suppress(Unavailable):  # the daemon stops; the next one finds it dead
                self._parts()
                tasks.start_soon(self._look_into, sandbox_id)

        deaths.listen(heard)

    async def _look_into(self, sandbox_id: str) -> None:
        record = self._catalogue.get(sandbox_id)
        if record is None:
            return  # made ready for nobody, or not entered yet: whoever makes it will know
        try:
            await self.look(record)
        except Exception:  # whatever it is about one of them, the daemon goes on
            log.exception("sandbox %s (%s) has died, which could not be written down", record.name, sandbox_id)

    async def look(self, record: Record) -> tuple[Record, Machine | None]:
        """Ask the engine how the machine is; write down what has changed."""
        _, engine = self._parts()
        record = self._catalogue.get(record.id) or record
        try:
            machine: Machine | None = await engine.status(record.id)
        except NotFound:
            machine = None
        return await self.follow(record, machine), machine

    async def follow(self, record: Record, machine: Machine | None) -> Record:
        """Bring the row up to date with the machine, unless an order is at work on it.

        `record` is the row as it was before the machine was looked at. If it is another one by now, an order has come
        to its end meanwhile, and what was seen is how things were before it: the next look tells.
        """
        journal, _ = self._parts()
        current = self._catalogue.get(record.id)
        if current is not record or current.status is Status.CREATING or self._claims.holder(record.id) is not None:
            return current or record
        if current.status is not Status.RUNNING or (machine is not None and machine.status is Status.RUNNING):
            return current
        words = last_words(machine, "its machine is gone")
        status = Status.STOPPED if machine is not None and machine.status is Status.STOPPED else Status.FAILED
        dead = msgspec.structs.replace(
            current, status=status, cause=words if status is Status.FAILED else None, stopped_at=now()
        )
        self._catalogue.put(dead)
        log.warning("sandbox %s (%s) is %s: %s", current.name, record.id, status, words.detail)
        await journal.note(dead, status.value, words.detail)
        return dead
