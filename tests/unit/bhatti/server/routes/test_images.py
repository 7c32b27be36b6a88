import json
from pathlib import Path

import pytest
from tests.serving import Served
from tests.unit.bhatti.daemon.test_builds import Store

from bhatti.daemon import builds
from bhatti.daemon.builds import RecordedImages

pytestmark = pytest.mark.anyio

EVENTS = {"Accept": "application/x-ndjson"}


class Quick(Store):
    """Builds at once."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.go_on.set()


@pytest.fixture
def quick(own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "ImageStore", Quick)
    own.service._images = RecordedImages(own.settings, own.service._orders, own.service.watch)


async def test_an_empty_directory_has_no_images(own: Served) -> None:
    async with own.http.get("/images") as response:
        assert await response.json() == []


@pytest.mark.usefixtures("quick")
async def test_a_build_answers_with_the_image(own: Served) -> None:
    async with own.http.post("/images/build", json={}) as response:
        assert (response.status, (await response.json())["kernel"]) == (200, "6.1.0")


@pytest.mark.usefixtures("quick")
async def test_a_build_tells_its_steps(own: Served) -> None:
    async with own.http.post("/images/build", json={"name": "base"}, headers=EVENTS) as response:
        events = [json.loads(line) async for line in response.content]
    assert [event["type"] for event in events][-1] == "image"
    assert {"type": "progress", "stage": "kernel", "done": 1, "total": 2} in events


@pytest.mark.parametrize("headers", [{}, EVENTS])
async def test_an_image_that_nobody_can_build_is_told(own: Served, headers: dict[str, str]) -> None:
    async with own.http.post("/images/build", json={"name": "other"}, headers=headers) as response:
        last = json.loads((await response.read()).splitlines()[-1])
    assert last["code"] == "invalid-request"
    assert "base" in last["hint"]


@pytest.mark.parametrize("headers", [{}, EVENTS])
@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/images/import", {"source": "nonsense"}, "bad-source"),
        ("/images/pull", {"reference": "Not A Name"}, "bad-reference"),
    ],
)
async def test_what_names_no_image_elsewhere_is_told(
    own: Served, headers: dict[str, str], path: str, body: dict[str, str], code: str
) -> None:
    async with own.http.post(path, json=body, headers=headers) as response:
        assert json.loads((await response.read()).splitlines()[-1])["code"] == code


@pytest.mark.parametrize("path", ["/images/import", "/images/pull"])
async def test_a_request_without_a_source_is_refused(own: Served, path: str) -> None:
    async with own.http.post(path, json={}) as response:
        assert (response.status, (await response.json())["code"]) == (400, "invalid-field")


async def test_an_image_in_use_stays_and_one_that_is_not_there_is_told(own: Served) -> None:
    async with own.http.delete("/images/base") as response:
        assert (response.status, (await response.json())["code"]) == (409, "image-in-use")
    async with own.http.delete("/images/other") as response:
        assert (response.status, (await response.json())["code"]) == (404, "image-not-found")


async def test_an_image_is_removed(own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = []

    async def remove(name: str) -> None:
        removed.append(name)

    monkeypatch.setattr(own.service._images, "remove", remove)
    async with own.http.delete("/images/other") as response:
        assert await response.json() == {"status": "deleted"}
    assert removed == ["other"]
