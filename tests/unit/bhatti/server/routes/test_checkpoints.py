import json

import pytest
from tests.serving import Served

pytestmark = pytest.mark.anyio

EVENTS = {"Accept": "application/x-ndjson"}


async def test_a_fork_is_made_whole_or_told_as_it_comes(own: Served) -> None:
    async with own.http.post("/sandboxes/one/fork", json={"name": "two"}) as response:
        assert (response.status, (await response.json())["how"]) == (201, "forked")
    async with own.http.post("/sandboxes/one/fork", json={"name": "three"}, headers=EVENTS) as response:
        events = [json.loads(line) async for line in response.content]
    assert [event.get("stage") or event["sandbox"]["name"] for event in events] == ["layer", "boot", "agent", "three"]
    async with own.http.post("/sandboxes", json={"name": "four", "from": "one"}) as response:
        assert (response.status, (await response.json())["how"]) == (201, "forked")


async def test_a_checkpoint_is_kept_listed_gone_back_to_and_removed(own: Served) -> None:
    async with own.http.post("/sandboxes/one/checkpoints", json={"name": "kept"}) as response:
        kept = await response.json()
        assert (response.status, kept["name"], kept["usable"]) == (201, "kept", True)
    async with own.http.get("/sandboxes/one/checkpoints") as response:
        assert await response.json() == [kept]
    async with own.http.post("/sandboxes/one/checkpoints/kept/restore") as response:
        assert (response.status, (await response.json())["how"]) == (200, "restored")
    async with own.http.delete("/sandboxes/one/checkpoints/kept") as response:
        assert (response.status, await response.json()) == (200, {"status": "deleted"})


async def test_a_snapshot_is_verified_once_there_is_one(own: Served) -> None:
    async with own.http.post("/sandboxes/one/snapshot/verify", json={}) as response:
        assert (response.status, (await response.json())["code"]) == (409, "illegal-transition")
    await own.service.stop_sandbox("one")
    async with own.http.post("/sandboxes/one/snapshot/verify", json={"probe": True}) as response:
        answer = await response.json()
    assert (response.status, answer["usable"], answer["probed"]) == (200, True, True)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/sandboxes/none/fork", {}, 404, "sandbox-not-found"),
        ("POST", "/sandboxes/one/fork", {"name": "one"}, 409, "name-taken"),
        ("POST", "/sandboxes/one/fork", {"name": "a/b"}, 400, "bad-name"),
        ("POST", "/sandboxes/one/fork", {"colour": "red"}, 400, "invalid-field"),
        ("POST", "/sandboxes/one/fork", {"checkpoint": "none"}, 404, "checkpoint-not-found"),
        ("POST", "/sandboxes/one/fork", {"checkpoint": "../../x"}, 400, "bad-name"),
        ("POST", "/sandboxes", {"from": "none"}, 404, "sandbox-not-found"),
        ("POST", "/sandboxes", {"from": "one", "image": "silent"}, 400, "shape-differs"),
        ("POST", "/sandboxes/one/checkpoints", {}, 400, "invalid-field"),
        ("POST", "/sandboxes/one/checkpoints", {"name": "../x"}, 400, "bad-name"),
        ("POST", "/sandboxes/one/checkpoints/none/restore", {}, 404, "checkpoint-not-found"),
        ("POST", "/sandboxes/one/checkpoints/..%2F..%2Fx/restore", {}, 400, "bad-name"),
        ("DELETE", "/sandboxes/one/checkpoints/none", {}, 404, "checkpoint-not-found"),
        ("DELETE", "/sandboxes/one/checkpoints/..%2F..%2Fx", {}, 400, "bad-name"),
        ("GET", "/sandboxes/none/checkpoints", {}, 404, "sandbox-not-found"),
    ],
)
async def test_what_cannot_be_done_is_told_and_leaves_nothing(
    served: Served, method: str, path: str, body: dict[str, object], status: int, code: str
) -> None:
    from yarl import URL  # the path as it is, escapes and all

    url = URL(f"http://bhatti{path}", encoded=True)
    async with served.http.request(method, url.relative(), json=body) as response:
        assert (response.status, (await response.json())["code"]) == (status, code)
    assert [sandbox.name for sandbox in await served.service.sandboxes()] == ["one"]
    assert await served.service.checkpoints("one") == []
