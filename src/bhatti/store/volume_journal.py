"""What is done with volumes, written down before the act and settled after it; each method is one transaction."""

import sqlite3

from bhatti.store import events, volumes
from bhatti.store.database import Database, Write
from bhatti.store.volumes import VolumeRecord


def settle(connection: sqlite3.Connection, record: VolumeRecord) -> None:
    """Write down that a volume is made, inside a unit."""
    volumes.update(connection, record)
    events.add(connection, "volume-created", None, str(record))


class VolumeJournal:
    """The store as far as volumes go. When a caller is cancelled, what it ordered is written all the same."""

    def __init__(self, database: Database, write: Write) -> None:
        self._database = database
        self._write = write

    async def everything(self) -> list[VolumeRecord]:
        """Return every volume, half-made ones included."""
        return await self._database.read(volumes.everything)

    async def begin(self, record: VolumeRecord) -> None:
        """Write down a volume that is about to be made. Raises `Conflict` (code `volume-exists`)."""
        await self._write(lambda connection: volumes.insert(connection, record))

    async def finish(self, record: VolumeRecord) -> None:
        """Write down that a volume is made."""
        await self._write(lambda connection: settle(connection, record))

    async def note(self, record: VolumeRecord, kind: str = "", detail: str = "") -> None:
        """Write down what has become of a volume; with a `kind`, as an event too."""

        def unit(connection: sqlite3.Connection) -> None:
            volumes.update(connection, record)
            if kind:
                events.add(connection, kind, None, detail)

        await self._write(unit)

    async def forget(self, record: VolumeRecord, kind: str, detail: str) -> None:
        """Strike a volume out that is gone, or that never came to be."""

        def unit(connection: sqlite3.Connection) -> None:
            volumes.delete(connection, record)
            events.add(connection, kind, None, detail)

        await self._write(unit)
