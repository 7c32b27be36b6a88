import base64
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from tests.engines.local import PROGRAMS, LocalEngine
from tests.serving import Served
from tests.serving import serving as daemon_in
from tests.unit.bhatti.daemon.test_builds import WithParts
from tests.unit.bhatti.images.oci.making import archive, file, make_image, write_layout
from tests.unit.bhatti.images.oci.serving import FakeRegistry, Request, serving

from bhatti.daemon import builds
from bhatti.daemon.builds import Work
from bhatti.operations import types
from bhatti.server.backend import BuildCallback

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: images have files of several users"),
]

MADE = make_image([archive([file("etc/motd", b"hello")])])


@dataclass
class House:
    """A daemon that lets users pull from one registry, which has the image `app:v1`."""

    served: Served
    registry: str

    async def pull(self, http: aiohttp.ClientSession, name: str | None = None) -> tuple[int, dict[str, Any]]:
        request = {"reference": f"{self.registry}/app:v1"} | ({"name": name} if name else {})
        async with http.post("/images/pull", json=request) as response:
            return response.status, await response.json()

    async def seen(self, http: aiohttp.ClientSession) -> list[str]:
        async with http.get("/images") as response:
            return [image["name"] for image in await response.json()]

    async def stored(self) -> list[str]:
        return [image.name for image in await self.served.service.images()]

    async def give(self, name: str, layout: Path) -> types.Image:
        request = types.ImageImport(source=f"oci:{layout}", name=name)
        return await self.served.service.import_image(request, lambda event: None)


@pytest.fixture
def registry() -> Iterator[str]:
    fake = FakeRegistry()
    fake.add(MADE, "v1")
    with serving(fake) as server:
        yield server.host


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return write_layout(tmp_path / "layout", MADE)


@pytest.fixture
async def house(directory: Path, registry: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(builds, "ImageStore", WithParts)
    async with daemon_in(directory, f"user_registries={registry}") as served:
        yield House(served, registry)


async def test_any_number_of_pulls_at_once_stay_within_the_cap(house: House) -> None:
    key = await house.served.user("anna", max_images=2)
    found: list[tuple[int, dict[str, Any]]] = []
    async with house.served.caller(key) as http:

        async def pull(name: str) -> None:
            found.append(await house.pull(http, name))

        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(pull, f"app-{number}")
        assert sorted(status for status, _ in found) == [200, 200, 429, 429, 429, 429]
        assert {body["code"] for status, body in found if status == 429} == {"image-limit"}
        mine = sorted(body["name"] for status, body in found if status == 200)
        assert await house.seen(http) == mine
        # What is there already is replaced and counts once, what is removed counts no more.
        assert (await house.pull(http, mine[0]))[0] == 200
        async with http.delete(f"/images/{mine[0]}") as response:
            assert response.status == 200
        assert (await house.pull(http, "another"))[0] == 200
        assert (await house.pull(http, "one-more"))[1]["code"] == "image-limit"


async def test_an_engine_that_finds_images_itself_finds_for_users_none_that_they_could_not_pull(
    house: House, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalEngine, "images_elsewhere", True)
    await house.give("shared", layout)
    key = await house.served.user("anna")
    async with house.served.caller(key) as http:
        for image, status, code in (
            ("internal.example/team/app", 403, "registry-not-allowed"),
            ("of-the-hosts-own-docker", 403, "registry-not-allowed"),
            ("Not An Image", 400, "bad-reference"),
            # What they may have, the engine is asked for; that of the tests has neither.
            (f"{house.registry}/app:v1", 404, "image-not-found"),
            ("shared", 404, "image-not-found"),
        ):
            async with http.post("/sandboxes", json={"image": image}) as response:
                assert (response.status, (await response.json())["code"]) == (status, code)
    async with house.served.http.post("/sandboxes", json={"image": "of-the-hosts-own-docker"}) as response:
        assert (await response.json())["code"] == "image-not-found"


async def test_each_has_images_of_their_own_and_everybody_those_of_the_administrator(
    house: House, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("shared", "app-v1"):
        await house.give(name, layout)
    anna, bert = await house.served.user("anna"), await house.served.user("bert")
    async with house.served.caller(anna) as hers, house.served.caller(bert) as his:
        status, pulled = await house.pull(hers)
        assert (status, pulled["name"]) == (200, "app-v1")
        assert (await house.pull(hers, "secret-of-hers"))[0] == 200
        assert await house.seen(hers) == ["app-v1", "secret-of-hers", "shared"]
        assert await house.seen(his) == ["app-v1", "shared"]
        (full,) = [name for name in await house.stored() if name.endswith(".secret-of-hers")]
        for name in ("secret-of-hers", full):
            for method in ("GET", "DELETE"):
                async with his.request(method, f"/images/{name}") as response:
                    assert (response.status, (await response.json())["code"]) == (404, "image-not-found")
        for http, name in ((hers, "secret-of-hers"), (hers, "shared"), (his, "shared")):
            async with http.get(f"/images/{name}") as response:
                assert (response.status, (await response.json())["name"]) == (200, name)
        async with his.post("/sandboxes", json={"image": full}) as response:
            assert (response.status, (await response.json())["code"]) == (404, "image-not-found")
        async with hers.delete("/images/shared") as response:
            assert (response.status, (await response.json())["code"]) == (403, "forbidden")
        # Of the same name, each gets their own.
        for name in await house.stored():
            # The engine of the tests runs the agent for any of these, as it does for `base`.
            run = ["sh", "-c", 'exec "$@" "$PWD" "$PWD/../env"', "sh", *PROGRAMS["base"]]
            monkeypatch.setitem(PROGRAMS, name, run)
        for http, meant in ((hers, full.replace("secret-of-hers", "app-v1")), (his, "app-v1")):
            async with http.post("/sandboxes", json={"image": "app-v1", "name": "one"}) as response:
                sandbox = await response.json()
                assert (response.status, sandbox.get("image")) == (201, "app-v1"), sandbox
            record = house.served.service._catalogue.get(sandbox["id"])
            assert record is not None
            assert record.spec.image == meant
        async with hers.delete("/images/app-v1") as response:
            refused = await response.json()
        assert (refused["code"], "usr_" in refused["error"]) == ("image-in-use", False)


async def test_users_pull_only_from_where_they_may_and_call_no_image_as_they_like(house: House) -> None:
    key = await house.served.user("anna")
    async with house.served.caller(key) as http:
        for request, status, code in (
            ({"reference": "127.0.0.1:1/app:v1"}, 403, "registry-not-allowed"),
            ({"reference": "alpine"}, 403, "registry-not-allowed"),
            ({"reference": f"{house.registry}/app:v1", "name": "base"}, 400, "bad-image-name"),
            ({"reference": f"{house.registry}/app:v1", "name": "../x"}, 400, "bad-image-name"),
            ({"reference": f"{house.registry}/app:v1", "name": "x" * 63}, 400, "bad-image-name"),
            ({"reference": f"{house.registry}/app:v2"}, 404, "image-not-found"),
        ):
            async with http.post("/images/pull", json=request) as response:
                body = await response.json()
                assert (response.status, body["code"]) == (status, code), request
                assert "usr_" not in body["error"]
    assert await house.stored() == []


async def test_a_user_is_kept_with_their_images_unless_they_go_too(house: House) -> None:
    key = await house.served.user("anna")
    async with house.served.caller(key) as http:
        assert (await house.pull(http))[0] == 200
    async with house.served.http.delete("/users/anna") as response:
        assert (response.status, (await response.json())["code"]) == (409, "user-has-images")
    async with house.served.http.delete("/users/anna", params={"force": "true"}) as response:
        assert response.status == 200
    assert await house.stored() == []


async def test_the_image_of_a_user_who_went_meanwhile_goes_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await house.served.user("anna")
    making, go_on = anyio.Event(), anyio.Event()
    make = house.served.service._images.make_recorded

    async def slowly(kind: str, work: Work, on_progress: BuildCallback, check: Callable[[], None]) -> types.Image:
        making.set()
        await go_on.wait()
        return await make(kind, work, on_progress, check)

    monkeypatch.setattr(house.served.service._images, "make_recorded", slowly)
    async with house.served.caller(key) as http, anyio.create_task_group() as tasks:
        found: list[tuple[int, dict[str, Any]]] = []

        async def pull() -> None:
            found.append(await house.pull(http))

        tasks.start_soon(pull)
        await making.wait()
        await house.served.service.accounts.remove("anna", force=True)
        go_on.set()
    assert (found[0][0], found[0][1]["code"]) == (401, "invalid-key")
    assert await house.stored() == []


async def test_a_user_pulls_without_the_credentials_of_the_daemon(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "ImageStore", WithParts)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    login = base64.b64encode(b"alice:secret").decode()
    fake = FakeRegistry()
    fake.add(MADE, "v1")

    def respond(request: Request) -> None:
        if request.headers.get("Authorization") == f"Basic {login}":
            fake(request)
        else:
            request.answer(401, WWW_Authenticate='Basic realm="test"')

    with serving(respond) as server:
        (tmp_path / "config.json").write_text(json.dumps({"auths": {server.host: {"auth": login}}}))
        async with daemon_in(directory, f"user_registries={server.host}") as served:
            house = House(served, server.host)
            async with served.caller(await served.user("anna")) as http:
                status, refused = await house.pull(http)
                assert refused["code"] == "registry-denied", (status, refused)
            assert (await house.pull(served.http))[0] == 200


async def test_a_user_need_not_wait_for_a_pull(house: House) -> None:
    async with house.served.caller(await house.served.user("anna", max_images=1)) as http:
        request = {"pull": {"reference": f"{house.registry}/app:v1"}}
        async with http.post("/tasks", json=request) as response:
            begun = await response.json()
            assert (response.status, begun["kind"]) == (202, "image-pull")
        async with http.get(f"/tasks/{begun['id']}/wait") as response:
            assert ((await response.json())["status"], (await response.json())["image"]) == ("done", "app-v1")
        assert await house.seen(http) == ["app-v1"]
        others: list[dict[str, dict[str, str]]] = [
            {"build": {}},
            {"import": {"source": "oci:/x"}},
            {"pull": {"reference": "elsewhere.test/app"}},
        ]
        for other in others:
            async with http.post("/tasks", json=other) as response:
                assert response.status == 403
        request["pull"]["name"] = "another"
        async with http.post("/tasks", json=request) as response:
            begun = await response.json()
        async with http.get(f"/tasks/{begun['id']}/wait") as response:
            failed = await response.json()
            assert (failed["status"], failed["error"]["code"]) == ("failed", "image-limit")
            assert "usr_" not in failed["error"]["error"]
    async with house.served.caller(await house.served.user("bert")) as http, http.get("/tasks") as response:
        assert await response.json() == []
