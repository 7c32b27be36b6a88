"""The store as far as secrets go: each change is one transaction, told of as an event that names the secret alone."""

import sqlite3
from collections.abc import Callable

from bhatti.store import events, secrets
from bhatti.store.database import Database, Write
from bhatti.store.secrets import SecretRecord


class SecretJournal:
    """Sealed secrets. When a caller is cancelled, what it ordered is written all the same."""

    def __init__(self, database: Database, write: Write) -> None:
        self._database = database
        self._write = write

    async def of(self, owner: str) -> list[SecretRecord]:
        """Return the secrets of an owner, by name."""
        return await self._database.read(lambda connection: secrets.of(connection, owner))

    async def count(self) -> int:
        """Return how many there are, of everybody."""
        return await self._database.read(secrets.count)

    async def put(self, record: SecretRecord) -> None:
        """Write a secret down, or its new value."""

        def unit(connection: sqlite3.Connection) -> None:
            secrets.put(connection, record)
            events.add(connection, "secret-set", None, record.name, record.owner)

        await self._write(unit)

    async def remove(self, record: SecretRecord) -> None:
        """Forget a secret; nothing happens if somebody else has done so meanwhile."""

        def unit(connection: sqlite3.Connection) -> None:
            if secrets.delete(connection, record.owner, record.name):
                events.add(connection, "secret-removed", None, record.name, record.owner)

        await self._write(unit)

    async def reseal(self, again: Callable[[str, bytes], bytes]) -> int:
        """Replace every sealed value by what `again` makes of it, given its name; return how many there are."""
        done: list[int] = []

        def unit(connection: sqlite3.Connection) -> None:
            done.append(secrets.reseal(connection, again))
            events.add(connection, "secret-key-rotated")

        await self._write(unit)
        return done[0]
