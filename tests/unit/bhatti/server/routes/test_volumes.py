import pytest
from tests.serving import Served

pytestmark = pytest.mark.anyio


async def test_a_volume_is_made_shown_grown_cloned_and_removed(own: Served) -> None:
    http = own.http
    async with http.post("/volumes", json={"name": "data", "size_mb": 64}) as response:
        made = await response.json()
        assert (response.status, made["name"], made["size_mb"], made["status"]) == (201, "data", 64, "ready")
    async with http.post("/volumes", json={"name": "data"}) as response:  # the reference's way to make sure of it
        assert (response.status, (await response.json())["size_mb"]) == (201, 64)
    async with http.post("/volumes/data/resize", json={"size_mb": 128}) as response:
        assert (response.status, (await response.json())["size_mb"]) == (200, 128)
    async with http.post("/volumes/data/clone", json={"name": "copy"}) as response:
        assert (response.status, (await response.json())["name"]) == (201, "copy")
    async with http.get("/volumes") as response:
        assert [found["name"] for found in await response.json()] == ["copy", "data"]
    async with http.get("/volumes/copy") as response:
        assert (await response.json())["attached"] == []
    for name in ("copy", "data"):
        async with http.delete(f"/volumes/{name}") as response:
            assert await response.json() == {"status": "deleted"}
    async with http.get("/volumes") as response:
        assert await response.json() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/volumes", {}, (400, "invalid-field")),
        ("POST", "/volumes", {"name": "a/b"}, (400, "bad-name")),
        ("POST", "/volumes", {"name": ".."}, (400, "bad-name")),
        ("POST", "/volumes", {"name": "x", "size_mb": 0}, (400, "invalid-field")),
        ("POST", "/volumes", {"name": "x", "size_mb": 1 << 20}, (507, "out-of-space")),
        ("GET", "/volumes/none", None, (404, "volume-not-found")),
        ("GET", "/volumes/..%2Fstate.db", None, (404, "volume-not-found")),
        ("DELETE", "/volumes/none", None, (404, "volume-not-found")),
        ("POST", "/volumes/none/resize", {"size_mb": 2}, (404, "volume-not-found")),
        ("POST", "/volumes/none/clone", {"name": "x"}, (404, "volume-not-found")),
    ],
)
async def test_what_cannot_be_done_is_told(
    served: Served, method: str, path: str, body: object, expected: tuple[int, str]
) -> None:
    async with served.http.request(method, path, json=body) as response:
        assert (response.status, (await response.json())["code"]) == expected


async def test_a_sandbox_has_the_volumes_it_asked_for_in_any_words(own: Served) -> None:
    request = {
        "name": "two",
        "volumes": [{"name": "a", "target": "/a", "auto_create": True, "size_mb": 1}],
        "persistent_volumes": [{"name": "b", "mount": "/b", "auto_create": True, "size_mb": 1, "read_only": True}],
        "new_volumes": [{"name": "c", "mount": "/c/", "size_mb": 1}],
    }
    async with own.http.post("/sandboxes", json=request) as response:
        assert response.status == 201
        assert (await response.json())["volumes"] == [
            {"name": "a", "mount": "/a", "read_only": False},
            {"name": "b", "mount": "/b", "read_only": True},
            {"name": "c", "mount": "/c", "read_only": False},
        ]
    async with own.http.get("/volumes/a") as response:
        (attached,) = (await response.json())["attached"]
        assert (attached["sandbox"], attached["mount"]) == ("two", "/a")
