import pytest
from tests.serving import Served

pytestmark = pytest.mark.anyio


async def test_a_port_from_its_publication_to_its_end(own: Served) -> None:
    async with own.http.post("/sandboxes/one/publish", json={"port": 8000}) as response:
        made = await response.json()
        assert (response.status, made["sandbox"], made["port"], made["alias"]) == (201, "one", 8000, "one")
        assert made["id"].startswith("pub_")
        assert made["url"] == f"{own.gateway_url}/p/one/"
    for again in ({"port": 8000}, {"port": 8000, "alias": "one"}):
        async with own.http.post("/sandboxes/one/publish", json=again) as response:
            assert (response.status, await response.json()) == (200, made)
    for path in ("/sandboxes/one/publish", "/publish"):
        async with own.http.get(path) as response:
            assert await response.json() == [made]
    async with own.http.delete("/sandboxes/one/publish/8000") as response:
        assert (response.status, await response.read()) == (204, b"")
    async with own.http.delete("/sandboxes/one/publish/8000") as response:
        assert (response.status, (await response.json())["code"]) == (404, "not-published")
    async with own.http.get("/publish") as response:
        assert await response.json() == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"port": 0}, 400, "invalid-field"),
        ({"port": 65_536}, 400, "invalid-field"),
        ({"port": 1024}, 400, "invalid-port"),
        ({}, 400, "invalid-field"),
        ({"port": 80, "alias": "www"}, 400, "bad-alias"),
        ({"port": 80, "alias": "../x"}, 400, "bad-alias"),
        ({"port": 80, "alias": "x" * 64}, 400, "invalid-field"),
        ({"port": 80, "allias": "x"}, 400, "invalid-field"),
    ],
)
async def test_what_cannot_be_published_is_refused(served: Served, body: object, status: int, code: str) -> None:
    async with served.http.post("/sandboxes/one/publish", json=body) as response:
        assert (response.status, (await response.json())["code"]) == (status, code)


async def test_a_sandbox_that_sleeps_sleeps_on(own: Served) -> None:
    await own.service.stop_sandbox("one")
    async with own.http.post("/sandboxes/one/publish", json={"port": 80}) as response:
        assert response.status == 201
    async with own.http.get("/sandboxes/one") as response:
        assert (await response.json())["status"] == "stopped"
