"""One SQLite file, one thread that writes it, one that reads it; the event loop never waits for either.

Every write is a *unit*: a function that gets the connection inside `BEGIN IMMEDIATE` and whose effects are committed
when it returns and rolled back when it raises. WAL lets the reader go on meanwhile.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import anyio

from bhatti.errors import BhattiError, CorruptData, OutOfSpace, Unavailable
from bhatti.store.migrations import migrate

log = logging.getLogger(__name__)

T = TypeVar("T")
Unit = Callable[[sqlite3.Connection], T]
"""Works on the store inside a transaction."""

Write = Callable[[Unit[None]], Awaitable[None]]
"""Carries a unit out in a transaction of its own, and tells those who wait for news."""

BUSY_TIMEOUT_S = 5.0
"""How long to wait for another process (a backup, a curious person's shell) to let go of the file."""

COPY_ID = 0x62687463
"""Marks a copy (`bhtc`, in `PRAGMA application_id`): a daemon that starts with one knows that it was restored."""


class Database:
    """Use `await Database.open(path)`; close with `aclose`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.created = False
        """Whether `open` made the file: then nothing it does not know can be assumed to be unwanted."""
        self.restored = False
        """Whether the file was a copy made by `backup`: then it does not know what came after it."""
        self._damage: CorruptData | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="bhatti-store-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="bhatti-store-read")
        self._write_connection: sqlite3.Connection | None = None
        self._read_connection: sqlite3.Connection | None = None

    @classmethod
    async def open(cls, path: Path) -> "Database":
        """Open or make the file, check it, bring its schema up to date.

        Raises `CorruptData` if SQLite finds it damaged or a newer bhatti wrote it, `Unavailable` if it cannot be
        written. When the caller is cancelled nothing is open and no thread works on the file any more.
        """
        database = cls(path)
        try:
            await database._run(database._writer, database._open_writer)
            await database._run(database._reader, database._open_reader)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await database.aclose()
            raise
        return database

    async def write(self, unit: Unit[T]) -> T:
        """Run `unit` in a transaction of its own on the writer thread; return what it returns.

        Raises what the unit raises, and `OutOfSpace`, `Unavailable` or `CorruptData` for what SQLite reports; once the
        file was found damaged, `CorruptData` without trying: what is written there may never be read again. When the
        caller is cancelled the unit is carried out all the same.
        """
        self.check_sound()
        return await self._run(self._writer, lambda: self._transaction(unit))

    async def read(self, unit: Unit[T]) -> T:
        """Run `unit` on the reader thread. Raises as `write` does; safe to cancel."""
        return await self._run(self._reader, lambda: unit(_opened(self._read_connection)))

    @property
    def damaged(self) -> bool:
        """Whether the file was found damaged since it was opened. SQLite notices when it reads, and not before."""
        return self._damage is not None

    def check_sound(self) -> None:
        """Raise `CorruptData` (code `store-corrupt`) if the file was found damaged."""
        if self._damage is not None:
            raise CorruptData(self._damage.message, hint=self._damage.hint, code=self._damage.code)

    async def backup(self, target: Path) -> None:
        """Write a copy of the store, as it is at one moment, to the new file `target`; readers and writer go on.

        Raises as `write` does. When the caller is cancelled the copy is finished all the same.
        """
        await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(None, self._reported(lambda: copy(self.path, target)))
        )

    async def aclose(self) -> None:
        """Close both connections and end both threads, after what is queued. Idempotent."""
        for executor, close in ((self._reader, self._close_reader), (self._writer, self._close_writer)):
            with contextlib.suppress(RuntimeError):  # shut down already
                await self._run(executor, close)
            executor.shutdown(wait=False)

    async def _run(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        # Shielded: a queued unit whose caller goes away must not be dropped, only some of the time.
        return await asyncio.shield(loop.run_in_executor(executor, self._reported(work)))

    def _reported(self, work: Callable[[], T]) -> Callable[[], T]:
        """Return `work` with SQLite's errors told apart by what can be done about them; damage is remembered."""

        def run() -> T:
            try:
                with translated(self.path):
                    return work()
            except CorruptData as err:
                if self._damage is None:
                    self._damage = err
                    log.error("%s; %s", err.message, err.hint)
                raise

        return run

    def _transaction(self, unit: Unit[T]) -> T:
        connection = _opened(self._write_connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = unit(connection)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # SQLite rolls back by itself on some errors
                connection.execute("ROLLBACK")
            raise
        return result

    def _open_writer(self) -> None:
        self.created = not self.path.exists()
        connection = self._write_connection = _connect(self.path)
        self.restored = connection.execute("PRAGMA application_id").fetchone()[0] == COPY_ID
        _check(connection)
        connection.execute("PRAGMA journal_mode=WAL")
        # A crash of the host, not only of the daemon, must not undo a journalled order.
        connection.execute("PRAGMA synchronous=FULL")
        # What is deleted is overwritten: the secrets of a destroyed sandbox do not linger in free pages.
        connection.execute("PRAGMA secure_delete=ON")
        if self.restored:
            connection.execute("PRAGMA application_id=0")
        migrate(connection)
        self.path.chmod(0o600)

    def _open_reader(self) -> None:
        connection = self._read_connection = _connect(self.path)
        connection.execute("PRAGMA query_only=ON")

    def _close_writer(self) -> None:
        if self._write_connection is not None:
            self._write_connection.close()
            self._write_connection = None

    def _close_reader(self) -> None:
        if self._read_connection is not None:
            self._read_connection.close()
            self._read_connection = None


def copy(source: Path, target: Path) -> None:
    """Copy a store that may be in use to the new file `target`, readable for its owner alone, and check the copy.

    One step of SQLite's backup (https://www.sqlite.org/backup.html) is one read transaction: with WAL nobody waits for
    it, and what it copies is the state of one moment. Blocks; raises SQLite's own errors.
    """
    target.touch(mode=0o600, exist_ok=False)
    with contextlib.closing(_connect(source)) as there, contextlib.closing(sqlite3.connect(target)) as here:
        there.execute("PRAGMA query_only=ON")
        there.backup(here)
        here.execute("PRAGMA journal_mode=DELETE")  # one file, without company
        here.execute(f"PRAGMA application_id={COPY_ID}")
        here.commit()
        _check(here)


def examined(path: Path) -> None:
    """Read all of a store that may be in use; raises `CorruptData` if it is damaged, `Unavailable` if it cannot be
    read. Blocks."""
    with translated(path), contextlib.closing(_connect(path)) as connection:
        connection.execute("PRAGMA query_only=ON")
        _check(connection)


def _check(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(f"quick_check: {found}")


def _connect(path: Path) -> sqlite3.Connection:
    # Autocommit: transactions are begun and ended in one place, by us. Each connection stays on its thread, but is
    # made there too, so the check of the thread stays on.
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _opened(connection: sqlite3.Connection | None) -> sqlite3.Connection:
    if connection is None:
        raise Unavailable("the store is closed", code="store-closed")
    return connection


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise `BhattiError` for SQLite's errors in the block; an `IntegrityError` is the caller's own to explain."""
    try:
        yield
    except (sqlite3.IntegrityError, BhattiError):
        raise
    except sqlite3.OperationalError as err:
        if getattr(err, "sqlite_errorname", "").startswith("SQLITE_FULL"):
            raise OutOfSpace(
                f"the store {path} cannot be written: the disk is full", hint=f"free space in {path.parent}"
            ) from err
        raise Unavailable(
            f"the store {path} does not work: {err}",
            hint=f"look for another process that holds it (`fuser {path}`) and at the rights of {path.parent}",
            code="store-unavailable",
        ) from err
    except sqlite3.DatabaseError as err:
        raise CorruptData(
            f"the store {path} is damaged: {err}",
            hint="stop the daemon, move the file away and put a backup in its place (docs/operations.md, Recover);"
            " machines that run are not touched",
            code="store-corrupt",
        ) from err
