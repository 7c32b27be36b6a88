"""Orders that change the world, written down before the act and settled after it.

Each method is one transaction, so that a kill at any point leaves a row and an intent that say together what was going
on; `daemon.recovery` reads them at the next start.
"""

import datetime
import sqlite3

import msgspec

from bhatti.model.sandbox import Status
from bhatti.store import events, intents, sandboxes
from bhatti.store.database import Database
from bhatti.store.events import Event
from bhatti.store.intents import Intent, Kind
from bhatti.store.sandboxes import Record


class Journal:
    """The store as the daemon uses it. When a caller is cancelled, what it ordered is written all the same."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def is_new(self) -> bool:
        """Whether the store was made by this start, so that it cannot know of machines made before."""
        return self._database.created

    async def sandboxes(self) -> list[Record]:
        """Return every sandbox, destroyed ones included, the oldest first."""
        return await self._database.read(sandboxes.everyone)

    async def intents(self) -> list[Intent]:
        """Return the orders that were begun and not settled."""
        return await self._database.read(intents.unsettled)

    async def events(self, limit: int = 100) -> list[Event]:
        """Return the last `limit` events, the oldest of them first."""
        return await self._database.read(lambda connection: events.latest(connection, limit))

    async def begin_create(self, record: Record) -> None:
        """Reserve id and name, and write down that the machine is being made.

        Raises `Conflict` (code `name-taken`).
        """

        def unit(connection: sqlite3.Connection) -> None:
            sandboxes.insert(connection, record)
            intents.begin(connection, Kind.CREATE, record.id)

        await self._database.write(unit)

    async def finish_create(self, record: Record) -> None:
        """Write down that the machine is made."""
        await self._settle(record, "created", record.facts.how)

    async def undo_create(self, sandbox_id: str, reason: str) -> None:
        """Forget a sandbox that could not be made; `reason` is kept as an event."""

        def unit(connection: sqlite3.Connection) -> None:
            sandboxes.delete(connection, sandbox_id)  # takes the intent with it
            events.add(connection, "create-undone", sandbox_id, reason)

        await self._database.write(unit)

    async def begin_destroy(self, sandbox_id: str) -> None:
        """Write down that the machine is being ended."""
        await self._database.write(lambda connection: intents.begin(connection, Kind.DESTROY, sandbox_id))

    async def finish_destroy(self, record: Record) -> None:
        """Write down that the machine is gone; `record` has status `destroyed`."""
        await self._settle(record, "destroyed", "")

    async def note(self, record: Record, kind: str, detail: str = "") -> None:
        """Write down what became of a sandbox without an order (it died, it was adopted)."""

        def unit(connection: sqlite3.Connection) -> None:
            sandboxes.update(connection, record)
            events.add(connection, kind, record.id, detail)

        await self._database.write(unit)

    async def forget_destroyed(self, before: datetime.datetime) -> int:
        """Drop the rows of sandboxes destroyed before then; return how many."""
        return await self._database.write(lambda connection: sandboxes.delete_destroyed_before(connection, before))

    async def _settle(self, record: Record, kind: str, detail: str) -> None:
        def unit(connection: sqlite3.Connection) -> None:
            sandboxes.update(connection, record)
            intents.settle(connection, record.id)
            events.add(connection, kind, record.id, detail)

        await self._database.write(unit)


def destroyed(record: Record) -> Record:
    """Return what is kept of a destroyed sandbox: who it was and how it ended, but none of its secrets."""
    bare = msgspec.structs.replace(record.spec, token="", env={}, files=(), init=None)
    return msgspec.structs.replace(record, status=Status.DESTROYED, spec=bare, destroyed_at=sandboxes.now())
