import pytest
from tests.serving import Served

pytestmark = pytest.mark.anyio


async def test_a_secret_is_kept_shown_without_its_value_and_forgotten(served: Served) -> None:
    http = served.http
    for _ in range(2):  # the reference's way to change it
        async with http.post("/secrets", json={"name": "TOKEN", "value": "value"}) as response:
            made = await response.json()
            assert (response.status, set(made)) == (201, {"name", "created_at", "updated_at"})
    async with http.get("/secrets") as response:
        assert await response.json() == [made]
    async with http.get("/secrets/TOKEN") as response:
        assert await response.json() == made
    async with http.post("/secret-key/rotate") as response:
        assert await response.json() == {"secrets": 1}
    async with http.delete("/secrets/TOKEN") as response:
        assert await response.json() == {"status": "deleted"}
    async with http.get("/secrets") as response:
        assert await response.json() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/secrets", {}, (400, "invalid-field")),
        ("POST", "/secrets", {"name": "TOKEN"}, (400, "invalid-field")),
        ("POST", "/secrets", {"name": "TOKEN", "value": ""}, (400, "invalid-field")),
        ("POST", "/secrets", {"name": "a/b", "value": "x"}, (400, "bad-name")),
        ("POST", "/secrets", {"name": "TOKEN", "value": "a\0"}, (400, "bad-secret")),
        ("GET", "/secrets/none", None, (404, "secret-not-found")),
        ("GET", "/secrets/..%2Fsecrets.key", None, (404, "secret-not-found")),
        ("DELETE", "/secrets/none", None, (404, "secret-not-found")),
        ("POST", "/sandboxes", {"secrets": ["none"]}, (400, "secret-not-found")),
    ],
)
async def test_what_cannot_be_done_is_told(
    served: Served, method: str, path: str, body: object, expected: tuple[int, str]
) -> None:
    async with served.http.request(method, path, json=body) as response:
        assert (response.status, (await response.json())["code"]) == expected


async def test_two_users_have_a_secret_of_one_name_and_none_sees_the_other_s(served: Served) -> None:
    keys = {name: await served.user(name) for name in ("anna", "bela")}
    for name, key in keys.items():
        async with served.caller(key) as caller:
            async with caller.post("/secrets", json={"name": "TOKEN", "value": name}) as response:
                assert response.status == 201
            async with caller.post("/secret-key/rotate") as response:
                assert response.status == 403
    async with served.caller(keys["bela"]) as bela, bela.delete("/secrets/TOKEN") as response:
        assert response.status == 200
    async with served.caller(keys["anna"]) as anna:
        async with anna.post("/sandboxes", json={"name": "hers", "secrets": ["TOKEN"]}) as response:
            assert response.status == 201
        async with anna.post("/sandboxes/hers/exec", json={"cmd": ["printenv", "TOKEN"]}) as response:
            assert (await response.json())["stdout"] == "anna\n"
    async with served.http.get("/secrets") as response:
        assert await response.json() == []
    async with served.http.delete("/users/anna") as response:
        assert (await response.json())["code"] == "user-has-sandboxes"
    await served.service.destroy("hers")
    async with served.http.delete("/users/anna") as response:
        assert (await response.json())["code"] == "user-has-secrets"
    for name in keys:
        async with served.http.delete(f"/users/{name}?force=true") as response:
            assert response.status == 200
    assert await served.journal.secrets.count() == 0
