import asyncio
import json

import anyio
import pytest
from tests.serving import Served

pytestmark = pytest.mark.anyio

EVENTS = {"Accept": "application/x-ndjson"}


async def test_a_sandbox_is_made_shown_listed_and_ended(own: Served) -> None:
    async with own.http.post("/sandboxes", json={"name": "two", "cpus": 1, "memory_mb": 256}) as response:
        assert response.status == 201
        made = await response.json()
    async with own.http.get("/sandboxes/two") as response:
        shown = await response.json()
    assert shown["id"] == made["id"]
    assert (shown["status"], shown["memory_mb"], shown["engine"]) == ("running", 256, "local")
    async with own.http.get("/sandboxes") as response:
        assert [sandbox["name"] for sandbox in await response.json()] == ["two", "one"]
    async with own.http.delete(f"/sandboxes/{made['id'][:6]}") as response:
        assert (response.status, await response.json()) == (200, {"status": "destroyed"})
    async with own.http.get("/sandboxes/two") as response:
        assert (response.status, (await response.json())["code"]) == (404, "sandbox-destroyed")


async def test_a_sandbox_without_a_name_gets_one(own: Served) -> None:
    async with own.http.post("/sandboxes", json={}) as response:
        assert (await response.json())["name"].startswith("sandbox-")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "one"}, 409, "name-taken"),
        ({"name": "with space"}, 400, "bad-name"),
        ({"name": "a\n"}, 400, "bad-name"),
        ({"name": "a/b"}, 400, "bad-name"),
        ({"name": "-a"}, 400, "bad-name"),
        ({"name": ".a"}, 400, "bad-name"),
        ({"name": "a" * 64}, 400, "bad-name"),
        ({"cpus": 0}, 400, "bad-cpus"),
        ({"memory_mb": 1 << 40}, 400, "bad-memory"),
        ({"image": "missing"}, 404, "image-not-found"),
        ({"image": "corrupt"}, 500, "image-corrupt"),
        ({"image": "full"}, 507, "out-of-space"),
        ({"image": "dies"}, 500, "engine-failure"),
        ({"image": "silent"}, 504, "guest-timeout"),
        ({"colour": "red"}, 400, "invalid-field"),
    ],
)
@pytest.mark.parametrize("headers", [{}, EVENTS])
async def test_what_cannot_be_made_is_told_and_leaves_nothing(
    own: Served, body: dict[str, object], status: int, code: str, headers: dict[str, str]
) -> None:
    async with own.http.post("/sandboxes", json=body, headers=headers) as response:
        last = json.loads((await response.read()).splitlines()[-1])
        streamed = response.status == 200
    assert last["code"] == code
    assert streamed or response.status == status
    assert [machine.id for machine in await own.engine.list()] == [s.id for s in await own.service.sandboxes()]


async def test_the_stages_are_told_as_they_begin(own: Served) -> None:
    async with own.http.post("/sandboxes", json={"name": "two"}, headers=EVENTS) as response:
        events = [json.loads(line) async for line in response.content]
    assert [event.get("stage") or event["sandbox"]["name"] for event in events] == ["layer", "boot", "agent", "two"]


@pytest.mark.parametrize("headers", [{}, EVENTS])
async def test_a_caller_who_leaves_gets_no_sandbox(own: Served, headers: dict[str, str]) -> None:
    body = {"name": "two", "image": "mute"}
    caller = asyncio.get_running_loop().create_task(
        own.http.post("/sandboxes", json=body, headers=headers).__aenter__()
    )
    while len(await own.service.sandboxes()) < 2:
        await anyio.lowlevel.checkpoint()
    if headers:
        (await caller).close()
    else:
        caller.cancel()
    while len(await own.service.sandboxes()) > 1:
        await anyio.lowlevel.checkpoint()
    assert len(await own.engine.list()) == 1
    assert await own.journal.intents() == []


async def test_a_defect_in_the_middle_of_a_stream_is_its_last_event(
    own: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def create(*arguments: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(own.service, "create", create)
    async with own.http.post("/sandboxes", json={"name": "two"}, headers=EVENTS) as response:
        (event,) = [json.loads(line) async for line in response.content]
    assert (event["type"], event["code"], event["error"]) == ("error", "internal", "internal error")
    assert response.headers["X-Request-Id"] in event["hint"]
    assert "oops" in caplog.text
