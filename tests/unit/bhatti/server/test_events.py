import json
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec
import pytest
from aiohttp import web
from tests.serving import Served

from bhatti.errors import OutOfSpace
from bhatti.operations import table, types
from bhatti.server.call import Call
from bhatti.server.events import WAITING, streamed

pytestmark = pytest.mark.anyio


async def test_a_stream_says_what_it_is_and_has_a_document_a_line(served: Served) -> None:
    headers = {"Accept": "application/x-ndjson"}
    async with served.http.post("/sandboxes", json={"name": "one"}, headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/x-ndjson"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Request-Id"].startswith("req_")
        lines = (await response.read()).split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line)["type"] for line in lines] == ["stage", "stage", "stage", "sandbox"]


Tell = Callable[[types.BuildEvent], None]


async def lines_of(served: Served, work: Callable[[Tell], Awaitable[types.BuildEvent]]) -> list[types.BuildEvent]:
    """Return what a caller reads of some work."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await streamed(Call(table.IMAGE_BUILD, request, served.service, "req_1"), types.BuildEvent, work)

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as session:
            host, port = runner.addresses[0][:2]
            async with session.get(f"http://{host}:{port}/") as response:
                return [msgspec.json.decode(line, type=types.BuildEvent) async for line in response.content]
    finally:
        await runner.cleanup()


def step(number: int) -> types.BuildEvent:
    return types.BuildEvent(type="progress", stage="kernel", done=number)


async def test_of_more_steps_than_may_wait_some_are_left_out_and_the_end_is_told(served: Served) -> None:
    async def work(tell: Tell) -> types.BuildEvent:
        for number in range(WAITING + 50):
            tell(step(number))
        return types.BuildEvent(type="image")

    *steps, last = await lines_of(served, work)
    assert [event.done for event in steps] == list(range(WAITING))
    assert last.type == "image"


async def test_what_goes_wrong_is_the_last_line(served: Served) -> None:
    async def work(tell: Tell) -> types.BuildEvent:
        tell(step(1))
        raise OutOfSpace("the disk is full")

    first, last = await lines_of(served, work)
    assert (first.done, last.type, last.code) == (1, "error", "out-of-space")


async def test_work_that_goes_on_behind_the_end_tells_nobody(served: Served) -> None:
    kept: list[Tell] = []

    async def work(tell: Tell) -> types.BuildEvent:
        kept.append(tell)
        return types.BuildEvent(type="image")

    assert [event.type for event in await lines_of(served, work)] == ["image"]
    kept[0](step(1))
