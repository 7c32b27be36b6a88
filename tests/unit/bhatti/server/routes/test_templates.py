import pytest
from tests.serving import Served

pytestmark = pytest.mark.anyio


async def test_a_template_is_made_shown_replaced_and_removed(served: Served) -> None:
    http = served.http
    async with http.post("/templates", json={"name": "agent", "cpus": 1, "env": {"A": "b"}}) as response:
        made = await response.json()
        assert (response.status, made["name"], made["cpus"], made["env"]) == (201, "agent", 1, {"A": "b"})
    async with http.get("/templates") as response:
        assert await response.json() == [made]
    async with http.put(f"/templates/{made['id']}", json={"name": "other"}) as response:
        assert (response.status, (await response.json())["id"]) == (200, made["id"])
    async with http.get("/templates/other") as response:
        assert (await response.json())["env"] == {}
    async with http.delete("/templates/other") as response:
        assert await response.json() == {"status": "deleted"}
    async with http.get("/templates") as response:
        assert await response.json() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/templates", {}, (400, "invalid-field")),
        ("POST", "/templates", {"name": "a", "cpu": 1}, (400, "invalid-field")),
        ("POST", "/templates", {"name": "a/b"}, (400, "bad-name")),
        ("GET", "/templates/none", None, (404, "template-not-found")),
        ("PUT", "/templates/none", {"name": "a"}, (404, "template-not-found")),
        ("DELETE", "/templates/none", None, (404, "template-not-found")),
        ("POST", "/sandboxes", {"template": "none"}, (404, "template-not-found")),
        ("POST", "/sandboxes", {"template_id": "none"}, (404, "template-not-found")),
    ],
)
async def test_what_cannot_be_done_is_told(
    served: Served, method: str, path: str, body: object, expected: tuple[int, str]
) -> None:
    async with served.http.request(method, path, json=body) as response:
        assert (response.status, (await response.json())["code"]) == expected
