import asyncio
import sqlite3
from contextlib import closing

import anyio
import pytest
from tests.serving import Served

from bhatti.daemon.accounts import AccountBook
from bhatti.daemon.settings import Rates
from bhatti.errors import (
    BhattiError,
    Busy,
    Conflict,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    Unauthorized,
    Unavailable,
)
from bhatti.model.user import ADMIN, KEY_PATTERN, Caller
from bhatti.operations import types
from bhatti.server.accounts import Accounts

pytestmark = pytest.mark.anyio


@pytest.fixture
def accounts(served: Served) -> Accounts:
    return served.service.accounts


def owner_of(accounts: Accounts, name: str) -> str:
    return accounts.get(name).id


async def test_a_key_says_whose_it_is(served: Served, accounts: Accounts) -> None:
    key = await served.user("anna")
    assert KEY_PATTERN.fullmatch(key)
    assert accounts.identify(key) == Caller(owner=owner_of(accounts, "anna"), name="anna")
    with pytest.raises(Unauthorized):
        accounts.identify(key[:-1] + ("a" if key[-1] != "a" else "b"))


async def test_users_are_found_by_name_and_id_and_listed_by_name(served: Served, accounts: Accounts) -> None:
    await served.user("bert")
    await served.user("anna")
    assert [user.name for user in accounts.list()] == ["anna", "bert"]
    assert accounts.get(owner_of(accounts, "bert")).name == "bert"
    for ref in ("nobody", "", "x" * 500):
        with pytest.raises(NotFound) as caught:
            accounts.get(ref)
        assert caught.value.code == "user-not-found"


async def test_a_name_is_one_user_s(served: Served, accounts: Accounts) -> None:
    await served.user("anna")
    key = await served.user("bert")
    for attempt in (
        accounts.create(types.UserCreate(name="anna")),
        accounts.update("bert", types.UserUpdate(name="anna")),
    ):
        with pytest.raises(Conflict) as caught:
            await attempt
        assert caught.value.code == "name-taken"
    with pytest.raises(InvalidRequest):
        await accounts.create(types.UserCreate(name="admin"))
    assert accounts.identify(key).name == "bert"


async def test_a_change_holds_from_now_on(served: Served, accounts: Accounts) -> None:
    key = await served.user("anna", max_sandboxes=1)
    changed = await accounts.update("anna", types.UserUpdate(name="anne", max_sandboxes=None))
    assert (changed.name, changed.max_sandboxes, changed.max_cpus) == ("anne", None, 8)
    assert accounts.identify(key).name == "anne"
    assert (await served.journal.users())[0].name == "anne"


async def test_twenty_rotations_at_once_leave_one_key(served: Served, accounts: Accounts) -> None:
    keys = [await served.user("anna")]
    keys += [made.api_key for made in await asyncio.gather(*(accounts.rotate("anna") for _ in range(20)))]
    valid = []
    for key in keys:
        try:
            valid.append(accounts.identify(key).name)
        except Unauthorized:
            continue
    assert valid == ["anna"]
    async with serving_again(served) as again:
        assert [again.identify(key).name for key in keys if key == keys[-1]] == ["anna"]


def serving_again(served: Served) -> "Again":
    return Again(served)


class Again:
    """The accounts as the next daemon finds them in the store."""

    def __init__(self, served: Served) -> None:
        self._served = served

    async def __aenter__(self) -> AccountBook:
        book = AccountBook(Rates())
        service = self._served.service
        own = service._catalogue, service._volumes, service._owned_images
        await book.start(self._served.journal, *own, service._end)
        return book

    async def __aexit__(self, *error: object) -> None:
        pass


async def test_who_asks_for_a_new_key_and_leaves_has_ended_the_old_one(served: Served, accounts: Accounts) -> None:
    key = await served.user("anna")
    with closing(sqlite3.connect(served.settings.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # what the daemon writes waits for us
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accounts.rotate, "anna")
            while True:
                try:
                    accounts.identify(key)
                except Unauthorized:
                    break
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        other.execute("ROLLBACK")
    await served.user("bert")  # one writer: what was written before this is written
    async with serving_again(served) as again:
        with pytest.raises(Unauthorized):
            again.identify(key)


async def test_a_change_that_cannot_be_written_is_taken_back(served: Served, accounts: Accounts) -> None:
    key = await served.user("anna")
    with closing(sqlite3.connect(served.settings.database, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER no_users BEFORE UPDATE ON users BEGIN SELECT RAISE(FAIL, 'disk on fire'); END")
        other.execute("CREATE TRIGGER no_new BEFORE INSERT ON users BEGIN SELECT RAISE(FAIL, 'disk on fire'); END")
        other.execute("CREATE TRIGGER no_end BEFORE DELETE ON users BEGIN SELECT RAISE(FAIL, 'disk on fire'); END")
    for attempt in (
        accounts.rotate("anna"),
        accounts.update("anna", types.UserUpdate(name="anne")),
        accounts.create(types.UserCreate(name="bert")),
        accounts.remove("anna", force=True),
    ):
        with pytest.raises((BhattiError, sqlite3.Error)):
            await attempt
    assert accounts.identify(key).name == "anna"
    assert [user.name for user in accounts.list()] == ["anna"]


async def test_what_a_user_has_is_told(served: Served, accounts: Accounts) -> None:
    caller = accounts.identify(await served.user("anna"))
    await served.service.create(types.SandboxCreate(name="one", memory_mb=256), lambda stage: None, caller)
    user = accounts.get("anna")
    assert (user.sandboxes, user.cpus, user.memory_mb) == (1, 1, 256)
    assert accounts.me(caller) == types.Me(name="anna", admin=False, user=user)
    assert accounts.me(ADMIN) == types.Me(name="admin", admin=True)


async def test_a_user_is_kept_while_a_sandbox_cannot_be_ended(served: Served, accounts: Accounts) -> None:
    key = await served.user("anna")
    made = await served.service.create(types.SandboxCreate(name="one"), lambda stage: None, accounts.identify(key))
    with served.service.claims.hold(made.id, "stop"), pytest.raises(Busy):
        await accounts.remove("anna", force=True)
    assert accounts.identify(key).name == "anna"
    await accounts.remove("anna", force=True)
    assert await served.engine.list() == []


async def test_a_user_who_has_volumes_is_kept_unless_those_are_to_go(served: Served, accounts: Accounts) -> None:
    caller = accounts.identify(await served.user("anna"))
    await accounts.create(types.UserCreate(name="bert"))
    everybody = served.service.volumes
    await everybody.of(caller).create(types.VolumeCreate(name="data", size_mb=16))
    await everybody.create(types.VolumeCreate(name="data", size_mb=16))
    wanted = [types.VolumeMount(name="data", target="/data")]
    await served.service.create(types.SandboxCreate(name="one", volumes=wanted), lambda stage: None, caller)
    with pytest.raises(Conflict) as caught:
        await accounts.remove("anna", force=False)
    assert caught.value.code == "user-has-sandboxes"
    await served.service.destroy("one")
    with pytest.raises(Conflict) as caught:
        await accounts.remove("anna", force=False)
    assert (caught.value.code, caught.value.message) == ("user-has-volumes", "user 'anna' has volumes: data")
    await served.service.create(types.SandboxCreate(name="one", volumes=wanted), lambda stage: None, caller)
    await accounts.remove("anna", force=True)
    assert [volume.name for volume in await everybody.list()] == ["data"], "the administrator's own"
    assert list((await served.engine.volumes.use()).used_mib) == ["data"]


async def test_a_user_is_kept_while_a_volume_of_theirs_cannot_be_removed(served: Served, accounts: Accounts) -> None:
    key = await served.user("anna")
    caller = accounts.identify(key)
    await served.service.volumes.of(caller).create(types.VolumeCreate(name="data", size_mb=16))
    with served.service.volumes._held(f"{caller.owner}.data", "clone"), pytest.raises(Busy):
        await accounts.remove("anna", force=True)
    assert accounts.identify(key).name == "anna"
    await accounts.remove("anna", force=True)
    assert await served.service.volumes.list() == []


async def test_nothing_new_comes_from_a_user_who_is_gone(served: Served, accounts: Accounts) -> None:
    caller = accounts.identify(await served.user("anna"))
    await accounts.remove("anna", force=False)
    with pytest.raises(Unauthorized):
        await served.service.create(types.SandboxCreate(name="one"), lambda stage: None, caller)
    with pytest.raises(Unauthorized):
        await served.service.volumes.of(caller).create(types.VolumeCreate(name="data", size_mb=16))
    assert await served.engine.list() == []
    assert await served.service.volumes.list() == []


async def test_other_caps_are_checked_by_name(served: Served) -> None:
    book = served.service._accounts
    await served.user("anna", max_images=1)
    book.check_cap(owner_of(book, "anna"), "max_images", 0)
    with pytest.raises(LimitExceeded):
        book.check_cap(owner_of(book, "anna"), "max_images", 1)
    book.check_cap(ADMIN.owner, "max_images", 10**9)


async def test_before_the_store_is_read_nobody_is_known_nor_refused() -> None:
    with pytest.raises(Unavailable) as caught:
        AccountBook(Rates()).identify("bht_" + "x" * 43)
    assert caught.value.code == "starting"
