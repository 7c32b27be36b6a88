"""Orders that change the world, written down before the act and settled after it.

Each method is one transaction, so that a kill at any point leaves a row and an intent that say together what was going
on; `daemon.recovery` reads them at the next start.
"""

import datetime
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec

from bhatti.model.sandbox import Status
from bhatti.store import events, intents, publications, sandboxes, secrets, templates, users, volume_journal
from bhatti.store.database import Database, Unit
from bhatti.store.events import ALL, Batch, Event, Wanted
from bhatti.store.intents import Intent, Kind
from bhatti.store.publication_journal import PublicationJournal
from bhatti.store.sandboxes import Record
from bhatti.store.secret_journal import SecretJournal
from bhatti.store.tasks import TaskJournal
from bhatti.store.template_journal import TemplateJournal
from bhatti.store.users import UserRecord
from bhatti.store.volume_journal import VolumeJournal
from bhatti.store.volumes import VolumeRecord

T = TypeVar("T")


class Journal:
    """The store as the daemon uses it. When a caller is cancelled, what it ordered is written all the same."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._written = anyio.Event()
        self.volumes = VolumeJournal(database, self._write)
        self.publications = PublicationJournal(database, self._write)
        self.tasks = TaskJournal(database, self._write)
        self.secrets = SecretJournal(database, self._write)
        self.templates = TemplateJournal(database, self._write)

    @property
    def written(self) -> anyio.Event:
        """Set when something has been written since it was asked for."""
        return self._written

    def tell(self) -> None:
        """Wake those who wait for `written`."""
        self._written.set()
        self._written = anyio.Event()

    @property
    def is_new(self) -> bool:
        """Whether the store was made or restored by this start, so that it need not know all machines there are."""
        return self._database.created or self._database.restored

    @property
    def damaged(self) -> bool:
        """Whether the store was found damaged."""
        return self._database.damaged

    def check_sound(self) -> None:
        """Raise `CorruptData` if the store was found damaged: before an order whose end could not be written down."""
        self._database.check_sound()

    async def backup(self, target: Path) -> None:
        """Write a copy of the store to the new file `target`; see `Database.backup`."""
        await self._database.backup(target)

    async def sandboxes(self) -> list[Record]:
        """Return every sandbox, destroyed ones included, the oldest first."""
        return await self._database.read(sandboxes.everyone)

    async def intents(self) -> list[Intent]:
        """Return the orders that were begun and not settled."""
        return await self._database.read(intents.unsettled)

    async def events(self, limit: int = 100, wanted: Wanted = ALL) -> list[Event]:
        """Return the last `limit` wanted events, the oldest of them first."""
        return await self._database.read(lambda connection: events.latest(connection, limit, wanted))

    async def events_after(self, cursor: int, limit: int, wanted: Wanted = ALL) -> list[Event]:
        """Return the first `limit` wanted events beyond `cursor`, the oldest first."""
        return await self._database.read(lambda connection: events.after(connection, cursor, limit, wanted))

    async def events_batch(self, cursor: int, limit: int, max_behind: int, wanted: Wanted) -> Batch:
        """Return what a live reader gets next; see `events.batch`."""
        return await self._database.read(lambda connection: events.batch(connection, cursor, limit, max_behind, wanted))

    async def last_event(self) -> int:
        """Return the id of the newest event, 0 if there never was one."""
        return (await self._database.read(events.span))[1]

    async def happened(self, kind: str, detail: str = "", sandbox_id: str | None = None) -> None:
        """Write down something that changes no sandbox's row."""
        await self._write(lambda connection: events.add(connection, kind, sandbox_id, detail))

    async def begin_create(self, record: Record) -> None:
        """Reserve id and name, and write down that the machine is being made.

        Raises `Conflict` (code `name-taken`).
        """

        def unit(connection: sqlite3.Connection) -> None:
            sandboxes.insert(connection, record)
            intents.begin(connection, Kind.CREATE, record.id)

        await self._write(unit)

    async def finish_create(self, record: Record, volumes: Iterable[VolumeRecord] = ()) -> None:
        """Write down that the machine is made, and with it the volumes that were made for it alone."""
        await self._settle(record, "created", record.facts.how, volumes)

    async def undo_create(self, sandbox_id: str, reason: str) -> None:
        """Forget a sandbox that could not be made; `reason` is kept as an event."""

        def unit(connection: sqlite3.Connection) -> None:
            events.add(connection, "create-undone", sandbox_id, reason)  # while the row knows its name
            sandboxes.delete(connection, sandbox_id)  # takes the intent with it

        await self._write(unit)

    async def begin_destroy(self, sandbox_id: str) -> None:
        """Write down that the machine is being ended."""
        await self._write(lambda connection: intents.begin(connection, Kind.DESTROY, sandbox_id))

    async def finish_destroy(self, record: Record) -> None:
        """Write down that the machine is gone; `record` has status `destroyed`."""
        await self._settle(record, "destroyed", "")

    async def note(self, record: Record, kind: str, detail: str = "") -> None:
        """Write down what became of a sandbox without an order (it died, it was adopted)."""

        def unit(connection: sqlite3.Connection) -> None:
            sandboxes.update(connection, record)
            events.add(connection, kind, record.id, detail)

        await self._write(unit)

    async def forget_destroyed(self, before: datetime.datetime) -> int:
        """Drop the rows of sandboxes destroyed before then; return how many."""
        return await self._write(lambda connection: sandboxes.delete_destroyed_before(connection, before))

    async def _write(self, unit: Unit[T]) -> T:
        try:
            return await self._database.write(unit)
        finally:
            # Of a cancelled caller the unit may still be under way: watchers look by themselves now and then.
            self.tell()

    async def users(self) -> list[UserRecord]:
        """Return all users, by name."""
        return await self._database.read(users.everyone)

    async def add_user(self, user: UserRecord) -> None:
        """Write a new user down; raises `Conflict` (code `name-taken`)."""

        def unit(connection: sqlite3.Connection) -> None:
            users.insert(connection, user)
            events.add(connection, "user-created", None, user.name)

        await self._write(unit)

    async def change_user(self, user: UserRecord) -> None:
        """Write a user's row anew; raises `Conflict` (code `name-taken`)."""

        def unit(connection: sqlite3.Connection) -> None:
            users.update(connection, user)
            events.add(connection, "user-changed", None, user.name)

        await self._write(unit)

    async def remove_user(self, user_id: str) -> None:
        """Forget a user, their secrets and their templates."""

        def unit(connection: sqlite3.Connection) -> None:
            users.delete(connection, user_id)
            secrets.delete_of(connection, user_id)
            templates.delete_of(connection, user_id)
            events.add(connection, "user-removed", None, user_id)

        await self._write(unit)

    async def _settle(self, record: Record, kind: str, detail: str, volumes: Iterable[VolumeRecord] = ()) -> None:
        def unit(connection: sqlite3.Connection) -> None:
            for volume in volumes:
                volume_journal.settle(connection, volume)
            sandboxes.update(connection, record)
            intents.settle(connection, record.id)
            if record.status is Status.DESTROYED:
                publications.delete_of(connection, record.id)
            events.add(connection, kind, record.id, detail)

        await self._write(unit)


def destroyed(record: Record) -> Record:
    """Return what is kept of a destroyed sandbox: who it was and how it ended, but none of its secrets."""
    bare = msgspec.structs.replace(record.spec, token="", env={}, files=(), init=None)
    return msgspec.structs.replace(record, status=Status.DESTROYED, spec=bare, destroyed_at=sandboxes.now())
