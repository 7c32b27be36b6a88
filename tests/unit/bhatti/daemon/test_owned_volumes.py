import asyncio
from collections.abc import Awaitable

import pytest
from tests.serving import Served

from bhatti.daemon.attachments import Wanted
from bhatti.daemon.owned_volumes import in_words_of, led, owner_of
from bhatti.errors import BhattiError, Conflict, NotFound
from bhatti.model.sandbox import VolumeAttachment
from bhatti.model.user import Caller
from bhatti.operations import types
from bhatti.server.volumes import VolumeBackend

pytestmark = pytest.mark.anyio


async def someone(served: Served, name: str, **caps: int) -> tuple[Caller, VolumeBackend]:
    """Make a user; return them and their volumes."""
    caller = served.service.accounts.identify(await served.user(name, **caps))
    return caller, served.service.volumes.of(caller)


async def code_of(call: Awaitable[object]) -> str:
    with pytest.raises(BhattiError) as caught:
        await call
    assert "usr_" not in caught.value.message + (caught.value.hint or "")
    return caught.value.code


def data(name: str = "data", **fields: int) -> types.VolumeCreate:
    return types.VolumeCreate(name=name, size_mb=fields.get("size_mb", 8))


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("usr_0123abcd.data", "usr_0123abcd"),
        ("data", ""),
        ("usr_0123abcd", ""),
        ("usr_x.data", ""),
        ("usr_0123abcd.", ""),
    ],
)
def test_a_name_says_whose_the_volume_is(name: str, owner: str) -> None:
    assert owner_of(name) == owner


def test_what_is_asked_for_is_led_to_one_s_own() -> None:
    asked = Wanted(volumes=(VolumeAttachment("a", "/a"), VolumeAttachment("b", "/b")), sizes_mib={"b": 5})
    assert led(asked, "") == asked
    found = led(asked, "usr_1")
    assert ([volume.name for volume in found.volumes], found.sizes_mib) == (["usr_1.a", "usr_1.b"], {"usr_1.b": 5})


def test_errors_speak_as_the_owner_does() -> None:
    with pytest.raises(Conflict) as caught, in_words_of("usr_1"):
        raise Conflict("volume 'usr_1.a' is in use", hint="bhatti volume rm usr_1.a")
    assert (caught.value.message, caught.value.hint) == ("volume 'a' is in use", "bhatti volume rm a")


async def test_two_users_have_a_volume_of_one_name_and_see_nothing_of_the_other(served: Served) -> None:
    _, hers = await someone(served, "anna")
    _, his = await someone(served, "bert")
    assert (await hers.create(data())).name == "data"
    assert await his.list() == []
    for attempt in (
        his.get("data"),
        his.remove("data"),
        his.resize("data", types.VolumeResize(size_mb=16)),
        his.clone("data", types.VolumeClone(name="copy")),
    ):
        assert await code_of(attempt) == "volume-not-found"
    await his.create(data(size_mb=9))
    assert [(found.name, found.size_mb) for found in await hers.list()] == [("data", 8)]
    assert (await hers.clone("data", types.VolumeClone(name="copy"))).name == "copy"
    assert (await hers.resize("data", types.VolumeResize(size_mb=16))).size_mb == 16
    assert await code_of(hers.create(data())) == "volume-exists"
    everybody = [found.name for found in await served.service.volumes.list()]
    assert sorted(owner_of(name) == served.service.accounts.get("anna").id for name in everybody) == [False, True, True]
    await hers.remove("data")
    assert [found.name for found in await his.list()] == ["data"]


async def test_another_s_volume_cannot_be_named(served: Served) -> None:
    anna, hers = await someone(served, "anna")
    _, his = await someone(served, "bert")
    await hers.create(data())
    for name in (f"{anna.owner}.data", f"../{anna.owner}.data", f".{anna.owner}.data"):
        with pytest.raises(NotFound):
            await his.get(name)
    await served.service.volumes.create(data("shared"))
    assert await code_of(his.get("shared")) == "volume-not-found"


async def test_a_sandbox_gets_its_owner_s_volume(served: Served) -> None:
    anna, hers = await someone(served, "anna")
    bert, his = await someone(served, "bert")
    await hers.create(data())
    mount = types.VolumeMount(name="data", target="/data")

    async def create(caller: Caller) -> types.Sandbox:
        request = types.SandboxCreate(name="one", volumes=[mount])
        return await served.service.create(request, lambda stage: None, caller)

    assert await code_of(create(bert)) == "volume-not-found"
    made = await create(anna)
    assert [mounted.name for mounted in made.volumes] == ["data"]
    assert [attached.sandbox for attached in (await hers.get("data")).attached] == ["one"]
    assert await code_of(hers.remove("data")) == "volume-in-use"
    await his.create(data())
    assert [mounted.name for mounted in (await create(bert)).volumes] == ["data"]


async def test_twenty_at_once_do_not_get_more_storage_than_the_user_may_have(served: Served) -> None:
    _, hers = await someone(served, "anna", max_volume_storage_mb=25)
    outcomes = await asyncio.gather(*(hers.create(data(f"v{n}")) for n in range(20)), return_exceptions=True)
    made = [outcome for outcome in outcomes if isinstance(outcome, types.Volume)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, BhattiError)]
    assert (len(made), len(refused)) == (3, 17)
    assert {error.code for error in refused} == {"volume-limit"}
    growing = (hers.resize(volume.name, types.VolumeResize(size_mb=9)) for volume in made)
    grown = await asyncio.gather(*growing, return_exceptions=True)
    assert sum(isinstance(outcome, types.Volume) for outcome in grown) == 1
    assert sum(found.size_mb for found in await hers.list()) == 25
    smallest, _, largest = sorted(await hers.list(), key=lambda volume: volume.size_mb)
    await hers.remove(largest.name)
    assert (await hers.clone(smallest.name, types.VolumeClone(name="again"))).size_mb == 8


async def test_what_cannot_be_had_is_not_half_reserved(served: Served) -> None:
    anna, hers = await someone(served, "anna", max_volume_storage_mb=10)
    mounts = [types.VolumeMount(name=name, target=f"/{name}", auto_create=True, size_mb=8) for name in ("one", "two")]
    request = types.SandboxCreate(volumes=mounts)
    assert await code_of(served.service.create(request, lambda stage: None, anna)) == "volume-limit"
    assert await hers.list() == []
    assert served.service.accounts.get("anna").sandboxes == 0
    assert (await hers.create(data("two"))).name == "two"
