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
        dead = become(current, machine)
        if dead is None:
            return current
        detail = dead.cause.detail if dead.cause is not None else ""
        self._catalogue.put(dead)
        log.warning("sandbox %s (%s) is %s: %s", dead.name, dead.id, dead.status, detail)
        await journal.note(dead, dead.status.value, detail)
        return dead


def become(row: Record, machine: Machine | None) -> Record | None:
    """Return what has become of a row whose machine is like that; None if it is right as it is."""
    words = last_words(machine, "its machine is gone")
    if row.status is Status.FAILED:
        # Of a death more may come to be known: a container that was killed is removed a moment later.
        known = row.cause is not None and (row.cause.kind, row.cause.detail) == (words.kind, words.detail)
        told = machine is not None and machine.status is Status.FAILED and machine.cause is not None
        return msgspec.structs.replace(row, cause=words) if told and not known else None
    if row.status is not Status.RUNNING or (machine is not None and machine.status is Status.RUNNING):
        return None
    if machine is not None and machine.status is Status.STOPPED:
        return msgspec.structs.replace(row, status=Status.STOPPED, cause=None, stopped_at=now())
    return msgspec.structs.replace(row, status=Status.FAILED, cause=words, stopped_at=now())
