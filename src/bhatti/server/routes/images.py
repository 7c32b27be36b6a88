"""Images."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from bhatti.operations import table, types
from bhatti.server.backend import BuildCallback
from bhatti.server.call import Call, Handler
from bhatti.server.events import streamed

Make = Callable[[BuildCallback], Awaitable[types.Image]]
"""Makes an image, and tells its steps."""


async def list_all(call: Call) -> list[types.Image]:
    """List the images."""
    return await call.backend.images(call.caller)


async def get(call: Call) -> types.Image:
    """Show one image."""
    return await call.backend.image(call.request.match_info["name"], call.caller)


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

    async def work(on_progress: BuildCallback) -> types.BuildEvent:
        return types.BuildEvent(type="image", image=await make(on_progress))

    return await streamed(call, types.BuildEvent, work)


async def remove(call: Call) -> types.Outcome:
    """Remove an image."""
    await call.backend.remove_image(call.request.match_info["name"], call.caller)
    return types.Outcome(status="deleted")


async def prune(call: Call) -> types.ImagesPruned:
    """Free the disk of what no image and no sandbox needs."""
    return await call.backend.prune_images()


HANDLERS: dict[str, Handler] = {
    table.IMAGE_LIST.name: list_all,
    table.IMAGE_GET.name: get,
    table.IMAGE_BUILD.name: build,
    table.IMAGE_IMPORT.name: import_,
    table.IMAGE_PULL.name: pull,
    table.IMAGE_REMOVE.name: remove,
    table.IMAGE_PRUNE.name: prune,
}
