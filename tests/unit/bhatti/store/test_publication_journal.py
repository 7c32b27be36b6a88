import pytest
from tests.unit.bhatti.store.rows import record
from tests.unit.bhatti.store.test_publications import PAGE

from bhatti.store.database import Database
from bhatti.store.journal import Journal, destroyed

pytestmark = pytest.mark.anyio


async def test_what_is_published_is_written_down_and_told(database: Database) -> None:
    journal = Journal(database)
    await journal.begin_create(record())
    await journal.publications.add(PAGE)
    assert await journal.publications.everything() == [PAGE]
    await journal.publications.remove(PAGE)
    assert await journal.publications.everything() == []
    assert [(event.kind, event.detail, event.sandbox_id) for event in await journal.events()] == [
        ("published", "port 80 as one", PAGE.sandbox_id),
        ("unpublished", "port 80, was one", PAGE.sandbox_id),
    ]


async def test_it_goes_in_the_transaction_that_ends_its_sandbox(database: Database) -> None:
    journal = Journal(database)
    await journal.begin_create(record())
    await journal.finish_create(record())
    await journal.publications.add(PAGE)
    await journal.begin_destroy(PAGE.sandbox_id)
    assert await journal.publications.everything() == [PAGE]
    await journal.finish_destroy(destroyed(record()))
    rows = await database.read(lambda connection: connection.execute("SELECT count(*) FROM publications").fetchone()[0])
    assert rows == 0
