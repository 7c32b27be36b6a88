import json

import pytest
from tests.serving import Served
from tests.unit.bhatti.daemon.test_tasks import IMAGE, STEP, Steps

from bhatti.server.routes import tasks

pytestmark = pytest.mark.anyio

EVENTS = {"Accept": "application/x-ndjson"}


async def test_a_task_is_seen_waited_for_and_over(own: Served) -> None:
    steps = Steps()
    job = await own.service.tasks.begin("image-build", "base", steps)
    url = f"/tasks/{job.record.id}"
    async with own.http.get("/tasks") as response:
        assert [task["id"] for task in await response.json()] == [job.record.id]
    async with own.http.get(f"{url}/wait", params={"timeout_sec": "0.01"}) as response:
        assert (await response.json())["status"] == "running"
    async with own.http.get(f"{url}/wait", headers=EVENTS) as response:
        assert json.loads(await response.content.readline())["task"]["status"] == "running"
        await steps.let(STEP)
        assert json.loads(await response.content.readline())["task"]["stage"] == "kernel"
        await steps.let(IMAGE)
        last = json.loads((await response.read()).splitlines()[-1])["task"]
    assert (last["status"], last["image"]) == ("done", "base")
    async with own.http.get(f"{url}/wait") as response:
        assert (await response.json())["status"] == "done"
    async with own.http.get(url) as response:
        assert (await response.json())["image"] == "base"
    async with own.http.delete(url) as response:
        assert (response.status, (await response.json())["code"]) == (409, "task-over")
    steps.close()


async def test_a_wait_has_signs_of_life_and_an_end(own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "ALIVE_S", 0.01)
    steps = Steps()
    job = await own.service.tasks.begin("image-build", "base", steps)
    query = {"timeout_sec": "0.2"}
    async with own.http.get(f"/tasks/{job.record.id}/wait", params=query, headers=EVENTS) as response:
        said = [json.loads(line)["type"] async for line in response.content]
    assert (said[0], said[-1], set(said[1:-1])) == ("task", "task", {"alive"})
    async with own.http.get(f"/tasks/{job.record.id}/wait", headers=EVENTS) as response:
        await response.content.readline()
        own.service._jobs.end()
        last = json.loads((await response.read()).splitlines()[-1])
    assert (last["type"], last["code"]) == ("error", "stopping")
    await steps.let(IMAGE)
    steps.close()


async def test_a_task_is_cancelled(own: Served) -> None:
    steps = Steps()
    job = await own.service.tasks.begin("image-build", "base", steps)
    async with own.http.delete(f"/tasks/{job.record.id}") as response:
        assert (response.status, (await response.json())["cancelling"]) == (200, True)
    await steps.let(STEP)
    async with own.http.get(f"/tasks/{job.record.id}/wait") as response:
        assert (await response.json())["status"] == "cancelled"
    steps.close()


async def test_what_is_not_there_or_cannot_begin_is_told(own: Served) -> None:
    for method, path in (("GET", "/tasks/x"), ("DELETE", "/tasks/x"), ("GET", "/tasks/x/wait")):
        async with own.http.request(method, path) as response:
            assert (response.status, (await response.json())["code"]) == (404, "task-not-found")
    async with own.http.post("/tasks", json={}) as response:
        assert (response.status, (await response.json())["code"]) == (400, "invalid-field")
