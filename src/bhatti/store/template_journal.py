"""The store as far as templates go: each change is one transaction."""

import sqlite3

from bhatti.store import events, templates
from bhatti.store.database import Database, Write
from bhatti.store.templates import TemplateRecord


class TemplateJournal:
    """Templates. When a caller is cancelled, what it ordered is written all the same."""

    def __init__(self, database: Database, write: Write) -> None:
        self._database = database
        self._write = write

    async def of(self, owner: str) -> list[TemplateRecord]:
        """Return the templates of an owner, by name."""
        return await self._database.read(lambda connection: templates.of(connection, owner))

    async def add(self, record: TemplateRecord) -> None:
        """Write a new template down; raises `Conflict` (code `name-taken`)."""

        def unit(connection: sqlite3.Connection) -> None:
            templates.insert(connection, record)
            events.add(connection, "template-created", None, record.name, record.owner)

        await self._write(unit)

    async def change(self, record: TemplateRecord) -> None:
        """Write a template anew; raises `Conflict` (code `name-taken`)."""

        def unit(connection: sqlite3.Connection) -> None:
            templates.update(connection, record)
            events.add(connection, "template-changed", None, record.name, record.owner)

        await self._write(unit)

    async def remove(self, record: TemplateRecord) -> None:
        """Forget a template."""

        def unit(connection: sqlite3.Connection) -> None:
            templates.delete(connection, record.id)
            events.add(connection, "template-removed", None, record.name, record.owner)

        await self._write(unit)
