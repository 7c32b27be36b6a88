import pytest
from tests.serving import Served

pytestmark = pytest.mark.anyio


async def test_a_user_s_life(served: Served) -> None:
    async with served.http.post("/users", json={"name": "anna", "max_cpus": 2}) as response:
        assert (response.status, response.headers["Cache-Control"]) == (201, "no-store")
        made = await response.json()
    assert made["api_key"].startswith("bht_")
    assert (made["user"]["name"], made["user"]["max_cpus"], made["user"]["max_sandboxes"]) == ("anna", 2, 5)
    async with served.http.patch("/users/anna", json={"max_cpus": None}) as response:
        assert (await response.json())["max_cpus"] is None
    async with served.http.get(f"/users/{made['user']['id']}") as response:
        assert (await response.json())["name"] == "anna"
    async with served.caller(made["api_key"]) as http, http.get("/me") as response:
        assert (await response.json())["user"]["id"] == made["user"]["id"]
    async with served.http.delete("/users/anna") as response:
        assert await response.json() == {"status": "deleted"}
    async with served.http.get("/users") as response:
        assert await response.json() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/users", {}, 400, "invalid-field"),
        ("POST", "/users", {"name": "a b"}, 400, "bad-name"),
        ("POST", "/users", {"name": "a", "max_cpus": -1}, 400, "invalid-field"),
        ("POST", "/users", {"name": "a", "max_cpu": 1}, 400, "invalid-field"),
        ("GET", "/users/nobody", None, 404, "user-not-found"),
        ("PATCH", "/users/nobody", {}, 404, "user-not-found"),
        ("POST", "/users/nobody/rotate", None, 404, "user-not-found"),
        ("DELETE", "/users/nobody", None, 404, "user-not-found"),
        ("DELETE", "/users/nobody?force=maybe", None, 400, "invalid-field"),
    ],
)
async def test_bad_input_is_named(
    served: Served, method: str, path: str, body: dict[str, object] | None, status: int, code: str
) -> None:
    async with served.http.request(method, path, json=body) as response:
        assert (response.status, (await response.json())["code"]) == (status, code)
