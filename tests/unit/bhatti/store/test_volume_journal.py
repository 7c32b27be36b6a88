import msgspec
import pytest
from tests.unit.bhatti.store.test_volumes import DATA

from bhatti.model.sandbox import VolumeStatus
from bhatti.store.database import Database
from bhatti.store.journal import Journal

pytestmark = pytest.mark.anyio


async def test_a_volume_is_written_down_before_it_is_made_and_until_it_is_gone(database: Database) -> None:
    journal = Journal(database)
    await journal.volumes.begin(DATA)
    assert [row.status for row in await journal.volumes.everything()] == [VolumeStatus.CREATING]
    ready = msgspec.structs.replace(DATA, status=VolumeStatus.READY)
    await journal.volumes.finish(ready)
    await journal.volumes.note(msgspec.structs.replace(ready, size_mib=128))
    assert [(row.status, row.size_mib) for row in await journal.volumes.everything()] == [("ready", 128)]
    await journal.volumes.forget(ready, "volume-removed", "data")
    assert await journal.volumes.everything() == []
    assert [(event.kind, event.detail) for event in await journal.events()] == [
        ("volume-created", "data: 64 MiB"),
        ("volume-removed", "data"),
    ]
