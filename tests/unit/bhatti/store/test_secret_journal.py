import msgspec
import pytest
from tests.unit.bhatti.store.test_secrets import TOKEN

from bhatti.store.database import Database
from bhatti.store.events import Wanted
from bhatti.store.journal import Journal

pytestmark = pytest.mark.anyio


async def test_each_change_is_told_of_to_its_owner_by_name_alone(database: Database) -> None:
    journal = Journal(database)
    hers = msgspec.structs.replace(TOKEN, owner="her")
    await journal.secrets.put(TOKEN)
    await journal.secrets.put(hers)
    assert await journal.secrets.count() == 2
    assert await journal.secrets.reseal(lambda name, sealed: b"new") == 2
    assert [row.sealed for row in await journal.secrets.of("her")] == [b"new"]
    await journal.secrets.remove(hers)
    await journal.secrets.remove(hers)
    assert await journal.secrets.of("her") == []
    assert [(event.kind, event.detail) for event in await journal.events(wanted=Wanted(owner="her"))] == [
        ("secret-set", "token"),
        ("secret-removed", "token"),
    ]
    assert [event.kind for event in await journal.events(wanted=Wanted(owner=""))] == [
        "secret-set",
        "secret-key-rotated",
    ]


async def test_sealing_again_is_done_for_all_or_for_none(database: Database) -> None:
    journal = Journal(database)
    for name in ("a", "b"):
        await journal.secrets.put(msgspec.structs.replace(TOKEN, name=name))

    def again(name: str, sealed: bytes) -> bytes:
        if name == "b":
            raise ValueError(name)
        return b"new"

    with pytest.raises(ValueError, match="b"):
        await journal.secrets.reseal(again)
    assert [row.sealed for row in await journal.secrets.of("")] == [TOKEN.sealed] * 2
