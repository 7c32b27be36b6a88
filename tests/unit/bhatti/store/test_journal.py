import datetime

import msgspec
import pytest
from tests.unit.bhatti.store.rows import record
from tests.unit.bhatti.store.test_volumes import DATA

from bhatti.errors import Conflict
from bhatti.model.sandbox import Status, VolumeStatus
from bhatti.store.database import Database
from bhatti.store.intents import Kind
from bhatti.store.journal import Journal, destroyed

pytestmark = pytest.mark.anyio

CREATING = record(status=Status.CREATING)
RUNNING = record()


@pytest.fixture
def journal(database: Database) -> Journal:
    return Journal(database)


async def kinds(journal: Journal) -> list[str]:
    return [event.kind for event in await journal.events()]


async def test_a_creation_is_written_down_before_and_after(journal: Journal) -> None:
    await journal.begin_create(CREATING)
    assert [found.status for found in await journal.sandboxes()] == [Status.CREATING]
    assert [found.kind for found in await journal.intents()] == [Kind.CREATE]
    await journal.finish_create(RUNNING)
    assert await journal.sandboxes() == [RUNNING]
    assert await journal.intents() == []
    assert await kinds(journal) == ["created"]


async def test_volumes_are_made_with_the_sandbox_that_they_were_made_for(journal: Journal) -> None:
    await journal.begin_create(CREATING)
    await journal.volumes.begin(DATA)
    await journal.finish_create(RUNNING, [msgspec.structs.replace(DATA, status=VolumeStatus.READY)])
    assert [row.status for row in await journal.volumes.everything()] == [VolumeStatus.READY]
    assert [(event.kind, event.detail) for event in await journal.events()] == [
        ("volume-created", "data: 64 MiB"),
        ("created", ""),
    ]


async def test_a_creation_undone_leaves_only_the_event(journal: Journal) -> None:
    await journal.begin_create(CREATING)
    await journal.undo_create(CREATING.id, "no space")
    assert await journal.sandboxes() == []
    assert await journal.intents() == []
    assert [(event.kind, event.detail) for event in await journal.events()] == [("create-undone", "no space")]


async def test_a_taken_name_leaves_neither_row_nor_intent(journal: Journal) -> None:
    await journal.begin_create(CREATING)
    with pytest.raises(Conflict):
        await journal.begin_create(record("other", CREATING.name, Status.CREATING))
    assert len(await journal.sandboxes()) == len(await journal.intents()) == 1


async def test_a_destruction_is_written_down_before_and_after(journal: Journal) -> None:
    await journal.begin_create(CREATING)
    await journal.finish_create(RUNNING)
    await journal.begin_destroy(RUNNING.id)
    assert [found.kind for found in await journal.intents()] == [Kind.DESTROY]
    await journal.finish_destroy(destroyed(RUNNING))
    assert [found.status for found in await journal.sandboxes()] == [Status.DESTROYED]
    assert await journal.intents() == []
    assert await kinds(journal) == ["created", "destroyed"]


def test_a_destroyed_sandbox_keeps_no_secret() -> None:
    gone = destroyed(RUNNING)
    assert gone.status is Status.DESTROYED
    assert gone.destroyed_at is not None
    kept = msgspec.json.encode(gone.spec)
    assert b"secret" not in kept
    assert b"value" not in kept
    assert b"/etc/x" not in kept


async def test_a_death_is_noted_without_an_order(journal: Journal) -> None:
    await journal.begin_create(CREATING)
    await journal.finish_create(RUNNING)
    await journal.note(msgspec.structs.replace(RUNNING, status=Status.FAILED), "failed", "it died")
    assert [found.status for found in await journal.sandboxes()] == [Status.FAILED]
    assert await kinds(journal) == ["created", "failed"]


async def test_the_long_gone_are_forgotten(journal: Journal) -> None:
    await journal.begin_create(CREATING)
    gone = destroyed(RUNNING)
    await journal.finish_destroy(gone)
    assert gone.destroyed_at is not None
    assert await journal.forget_destroyed(gone.destroyed_at) == 0
    assert await journal.forget_destroyed(gone.destroyed_at + datetime.timedelta(seconds=1)) == 1


async def test_a_new_store_says_that_it_is_new(journal: Journal) -> None:
    assert journal.is_new
