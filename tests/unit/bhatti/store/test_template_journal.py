import msgspec
import pytest
from tests.unit.bhatti.store.test_secrets import TOKEN
from tests.unit.bhatti.store.test_templates import AGENT

from bhatti.errors import Conflict
from bhatti.store.database import Database
from bhatti.store.events import Wanted
from bhatti.store.journal import Journal

pytestmark = pytest.mark.anyio


async def test_each_change_is_told_of_to_its_owner(database: Database) -> None:
    journal = Journal(database)
    hers = msgspec.structs.replace(AGENT, owner="her")
    await journal.templates.add(hers)
    with pytest.raises(Conflict):
        await journal.templates.add(msgspec.structs.replace(hers, id="2"))
    await journal.templates.change(msgspec.structs.replace(hers, name="other"))
    assert [row.name for row in await journal.templates.of("her")] == ["other"]
    await journal.templates.remove(hers)
    assert [event.kind for event in await journal.events(wanted=Wanted(owner="her"))] == [
        "template-created",
        "template-changed",
        "template-removed",
    ]


async def test_what_a_user_kept_goes_with_them(database: Database) -> None:
    journal = Journal(database)
    await journal.templates.add(msgspec.structs.replace(AGENT, owner="her"))
    await journal.secrets.put(msgspec.structs.replace(TOKEN, owner="her"))
    await journal.remove_user("her")
    assert (await journal.templates.of("her"), await journal.secrets.of("her")) == ([], [])
