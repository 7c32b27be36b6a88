import aiohttp
import anyio
import pytest
from tests.serving import Served, serving, short_directory
from tests.unit.bhatti.gateway.conftest import echo, published, web_server

from bhatti.errors import BhattiError, Conflict, LimitExceeded
from bhatti.operations import types

pytestmark = pytest.mark.anyio


async def refused(served: Served, ref: str, port: int, alias: str | None = None) -> BhattiError:
    with pytest.raises(BhattiError) as caught:
        await published(served, port, alias, ref)
    return caught.value


async def test_names_come_from_sandboxes_and_are_had_once() -> None:
    with short_directory() as directory:
        async with serving(directory) as served:
            await served.create("one")
            await served.create("One")
            found = [await published(served, port, ref=ref) for ref, port in (("one", 80), ("one", 81), ("One", 80))]
            assert [one.alias for one in found][:2] == ["one", "one-81"]
            assert found[2].alias == "one-80"
            assert (await refused(served, "One", 90, "one")).code == "alias-taken"
            assert (await refused(served, "one", 80, "other")).code == "already-published"


async def test_of_many_who_want_one_name_one_gets_it() -> None:
    with short_directory() as directory:
        async with serving(directory) as served:
            await served.create("one")
            outcomes: list[str] = []

            async def publish(port: int) -> None:
                try:
                    outcomes.append((await published(served, port, "page")).alias)
                except Conflict as err:
                    outcomes.append(err.code)

            async with anyio.create_task_group() as tasks:
                for port in range(1, 11):
                    tasks.start_soon(publish, port)
            assert sorted(outcomes) == ["alias-taken"] * 9 + ["page"]
            assert len(served.service.publications.list()) == 1


async def test_what_is_published_outlives_the_daemon_and_wakes_its_sandbox() -> None:
    with short_directory() as directory:
        async with web_server(echo) as port:
            async with serving(directory) as served:
                await served.create("one")
                before = await published(served, port, "page")
                # As a daemon that is killed: the row is all that the next one has.
                rows = await served.journal.publications.everything()
            assert [row.alias for row in rows] == ["page"]
            async with serving(directory) as served:
                (after,) = served.service.publications.list()
                assert (after.id, after.alias, after.port) == (before.id, "page", port)


async def test_it_goes_with_its_sandbox_and_the_name_is_free() -> None:
    with short_directory() as directory:
        async with serving(directory) as served, web_server(echo) as port:
            await served.create("one")
            await published(served, port, "page")
            await served.service.destroy("one")
            assert served.service.publications.list() == []
            assert await served.journal.publications.everything() == []
            async with aiohttp.ClientSession(served.gateway_url) as http, http.get("/p/page/") as response:
                assert response.status == 404
            await served.create("two")
            assert (await published(served, port, "page", "two")).sandbox == "two"


async def test_each_user_has_so_many_and_sees_their_own() -> None:
    with short_directory() as directory:
        async with serving(directory) as served:
            anna, bert = await served.user("anna", max_published=2), await served.user("bert")
            async with served.caller(anna) as hers, served.caller(bert) as his:
                for http in (hers, his):
                    async with http.post("/sandboxes", json={"name": "same"}) as response:
                        assert response.status == 201
                for port, status in ((80, 201), (81, 201), (82, 429), (80, 200)):
                    async with hers.post("/sandboxes/same/publish", json={"port": port}) as response:
                        assert response.status == status
                async with his.post("/sandboxes/same/publish", json={"port": 80, "alias": "same"}) as response:
                    assert (response.status, (await response.json())["code"]) == (409, "alias-taken")
                async with his.get("/publish") as response:
                    assert await response.json() == []
                async with hers.get("/publish") as response:
                    ids = {found["sandbox_id"] for found in await response.json()}
                for method, path in (
                    ("GET", "publish"),
                    ("DELETE", "publish/80"),
                    ("GET", "ports"),
                    ("GET", "forward/1"),
                ):
                    async with his.request(method, f"/sandboxes/{ids.copy().pop()}/{path}") as response:
                        assert (response.status, (await response.json())["code"]) == (404, "sandbox-not-found")
            assert len(served.service.publications.list()) == 2
            assert LimitExceeded.http_status == 429


async def test_without_a_gateway_nothing_is_published_and_the_way_to_one_is_told() -> None:
    with short_directory() as directory:
        async with serving(directory) as served:
            await served.create("one")
            await published(served, 80)
            served.service.published._port = None
            error = await refused(served, "one", 81)
            assert (error.code, "gateway.listen" in (error.hint or "")) == ("no-gateway", True)
            assert [found.url for found in served.service.publications.list()] == [None]


async def test_what_cannot_be_written_is_not_published() -> None:
    with short_directory() as directory:
        async with serving(directory) as served:
            sandbox = await served.create("one")
            # A row that memory does not know of, as only a defect would leave it.
            found = await published(served, 80)
            served.service.published.forget(sandbox.id)
            assert (await refused(served, "one", 81, found.alias)).code == "alias-taken"
            assert served.service.publications.list() == []
            assert await served.service.publications.publish("one", types.PublishRequest(port=82, alias="other"))
