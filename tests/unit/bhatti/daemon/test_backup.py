import sqlite3
import stat
from pathlib import Path

import pytest
from tests.unit.bhatti.store.rows import record

from bhatti.daemon import backup
from bhatti.errors import OutOfSpace
from bhatti.model.sandbox import Status
from bhatti.store.database import Database
from bhatti.store.journal import Journal

pytestmark = pytest.mark.anyio


def drafts(directory: Path) -> list[Path]:
    return list(directory.glob(backup.DRAFT))


async def saved(journal: Journal, directory: Path) -> Path:
    target = directory / "saved.db"
    async with backup.copied(journal, directory) as pieces:
        target.write_bytes(b"".join([piece async for piece in pieces]))
    return target


async def test_a_copy_is_a_store_as_it_was_at_one_moment(journal: Journal, directory: Path) -> None:
    await journal.begin_create(record("aa", "one", Status.CREATING))
    async with backup.copied(journal, directory) as pieces:
        await journal.begin_create(record("bb", "two", Status.CREATING))  # nobody waits for the reader
        content = b"".join([piece async for piece in pieces])
    (directory / "saved.db").write_bytes(content)
    with sqlite3.connect(directory / "saved.db") as found:
        assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert found.execute("SELECT name FROM sandboxes").fetchall() == [("one",)]
    found.close()


async def test_nothing_is_left_of_it_and_nobody_else_could_read_it(journal: Journal, directory: Path) -> None:
    async with backup.copied(journal, directory):
        (draft,) = drafts(directory)
        assert stat.S_IMODE(draft.stat().st_mode) == 0o600
    assert drafts(directory) == []


async def test_a_restored_store_says_so_once(journal: Journal, directory: Path) -> None:
    copy = await saved(journal, directory)
    for expected in (True, False):
        database = await Database.open(copy)
        assert Journal(database).is_new is expected
        await database.aclose()


async def test_without_room_for_it_there_is_no_copy(journal: Journal, directory: Path) -> None:
    with pytest.raises(OutOfSpace):
        async with backup.copied(journal, directory / "missing"):
            pass


async def test_what_a_killed_daemon_left_is_removed(directory: Path) -> None:
    (directory / "backup-0123.tmp").touch()
    backup.sweep(directory)
    assert drafts(directory) == []
