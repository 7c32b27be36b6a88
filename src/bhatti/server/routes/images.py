"""Images."""

from collections.abc import Awaitable, Callable

import anyio
from aiohttp import web

from bhatti.operations import table, types
from bhatti.server.backend import BuildCallback
from bhatti.server.call import Call, Handler
from bhatti.server.events import EventStream
from bhatti.server.failures import ours
from bhatti.taskgroups import together

WAITING = 256
"""Steps of a build that may wait for a slow reader; beyond, the middle ones are left out: only the latest matters."""

Make = Callable[[BuildCallback], Awaitable[types.Image]]
"""Makes an image, and tells its steps."""


async def list_all(call: Call) -> list[types.Image]:
    """List the images."""
    return await call.backend.images(call.caller)


async def build(call: Call) -> types.Image | web.StreamResponse:
    """Build what is missing of an image; as a stream, its steps are told."""
    request = await call.body(types.ImageBuild)
    return await _made(call, lambda on_progress: call.backend.build_image(request, on_progress))


async def import_(call: Call) -> types.Image | web.StreamResponse:
    """Take over an image of this machine; as a stream, the steps are told."""
    request = await call.body(types.ImageImport)
    return await _made(call, lambda on_progress: call.backend.import_image(request, on_progress))


async def pull(call: Call) -> types.Image | web.StreamResponse:
    """Take over an image of a registry; as a stream, the steps are told."""
    request = await call.body(types.ImagePull)
    return await _made(call, lambda on_progress: call.backend.pull_image(request, on_progress, call.caller))


async def _made(call: Call, make: Make) -> types.Image | web.StreamResponse:
    if not call.wants_events():
        return await make(lambda event: None)
    stream = EventStream[types.BuildEvent](call)
    await stream.begin()
    steps_in, steps = anyio.create_memory_object_stream[types.BuildEvent](WAITING)

    async def tell() -> None:
        async with steps:
            async for step in steps:
                await stream.send(step)

    def on_progress(event: types.BuildEvent) -> None:
        if steps_in.statistics().current_buffer_used < WAITING and steps_in.statistics().open_send_streams:
            steps_in.send_nowait(event)

    last: types.BuildEvent
    async with together() as tasks, steps_in:
        tasks.start_soon(tell)
        try:
            last = types.BuildEvent(type="image", image=await make(on_progress))
        except Exception as err:
            last = types.BuildEvent.of(ours(err, call.request, call.request_id))
    await stream.send(last)
    return await stream.end()


async def remove(call: Call) -> types.Outcome:
    """Remove an image."""
    await call.backend.remove_image(call.request.match_info["name"], call.caller)
    return types.Outcome(status="deleted")


async def prune(call: Call) -> types.ImagesPruned:
    """Free the disk of what no image and no sandbox needs."""
    return await call.backend.prune_images()


HANDLERS: dict[str, Handler] = {
    table.IMAGE_LIST.name: list_all,
    table.IMAGE_BUILD.name: build,
    table.IMAGE_IMPORT.name: import_,
    table.IMAGE_PULL.name: pull,
    table.IMAGE_REMOVE.name: remove,
    table.IMAGE_PRUNE.name: prune,
}
