"""What is published, written down; each method is one transaction."""

import sqlite3

from bhatti.store import events, publications
from bhatti.store.database import Database, Write
from bhatti.store.publications import PublicationRecord


class PublicationJournal:
    """The store as far as published ports go. When a caller is cancelled, what it ordered is written all the same."""

    def __init__(self, database: Database, write: Write) -> None:
        self._database = database
        self._write = write

    async def everything(self) -> list[PublicationRecord]:
        """Return every published port, the oldest first."""
        return await self._database.read(publications.everything)

    async def add(self, record: PublicationRecord) -> None:
        """Write down that a port is published. Raises `Conflict` (code `alias-taken`)."""

        def unit(connection: sqlite3.Connection) -> None:
            publications.insert(connection, record)
            events.add(connection, "published", record.sandbox_id, f"port {record.port} as {record.alias}")

        await self._write(unit)

    async def remove(self, record: PublicationRecord) -> None:
        """Write down that a port is published no more."""

        def unit(connection: sqlite3.Connection) -> None:
            publications.delete(connection, record.id)
            events.add(connection, "unpublished", record.sandbox_id, f"port {record.port}, was {record.alias}")

        await self._write(unit)
