"""Making, listing, showing, changing, pausing, stopping, starting and ending sandboxes."""

from collections.abc import Awaitable, Callable

import anyio
from aiohttp import web

from bhatti.operations import table, types
from bhatti.server.backend import StageCallback
from bhatti.server.call import Call, Handler
from bhatti.server.events import EventStream
from bhatti.server.failures import ours
from bhatti.taskgroups import together


async def create(call: Call) -> types.Sandbox | web.StreamResponse:
    """Make a sandbox; as a stream, the stages are told as they begin."""
    request = await call.body(types.SandboxCreate)
    repeat = call.repeat(request)
    return await creation(call, lambda on_stage: call.backend.create(request, on_stage, call.caller, repeat))


Making = Callable[[StageCallback], Awaitable[types.Sandbox]]
"""Makes a sandbox, telling its stages."""


async def creation(call: Call, make: Making) -> types.Sandbox | web.StreamResponse:
    """Answer with what `make` makes, whole or as the stream that the caller accepts."""
    if not call.wants_events():
        return await make(lambda stage: None)
    return await _told(call, make)


async def _told(call: Call, make: Making) -> web.StreamResponse:
    stream = EventStream[types.CreateEvent](call)
    await stream.begin()
    # The engine's callback must not block, the caller may read slowly: the stages wait here, a handful at most.
    stages_in, stages = anyio.create_memory_object_stream[str](64)

    async def tell() -> None:
        async with stages:
            async for stage in stages:
                await stream.send(types.CreateEvent(type="stage", stage=stage))

    def on_stage(stage: str) -> None:
        if stages_in.statistics().current_buffer_used < 64:
            stages_in.send_nowait(stage)

    last: types.CreateEvent
    async with together() as tasks, stages_in:
        tasks.start_soon(tell)
        try:
            last = types.CreateEvent(type="sandbox", sandbox=await make(on_stage))
        except Exception as err:
            last = types.CreateEvent.of(ours(err, call.request, call.request_id))
    await stream.send(last)
    return await stream.end()


async def list_all(call: Call) -> list[types.Sandbox]:
    """List the sandboxes."""
    return await call.backend.sandboxes(call.query(types.SandboxFilter), call.caller)


async def get(call: Call) -> types.Sandbox:
    """Show one sandbox."""
    return await call.backend.sandbox(call.ref)


async def edit(call: Call) -> types.Sandbox:
    """Change name, labels or idle times of a sandbox."""
    return await call.backend.edit(call.ref, await call.body(types.SandboxEdit))


async def pause(call: Call) -> types.Sandbox:
    """Halt a sandbox."""
    return await call.backend.pause_sandbox(call.ref)


async def resume(call: Call) -> types.Sandbox:
    """Let a halted sandbox run on."""
    return await call.backend.resume_sandbox(call.ref)


async def stop(call: Call) -> types.Sandbox:
    """Put a sandbox to sleep."""
    return await call.backend.stop_sandbox(call.ref, await call.body(types.SandboxStop))


async def start(call: Call) -> types.Sandbox:
    """Wake a sandbox."""
    return await call.backend.start_sandbox(call.ref)


async def destroy(call: Call) -> types.Outcome:
    """End a sandbox."""
    await call.backend.destroy(call.ref)
    return types.Outcome(status="destroyed")


HANDLERS: dict[str, Handler] = {
    table.SANDBOX_CREATE.name: create,
    table.SANDBOX_LIST.name: list_all,
    table.SANDBOX_GET.name: get,
    table.SANDBOX_EDIT.name: edit,
    table.SANDBOX_PAUSE.name: pause,
    table.SANDBOX_RESUME.name: resume,
    table.SANDBOX_STOP.name: stop,
    table.SANDBOX_START.name: start,
    table.SANDBOX_DESTROY.name: destroy,
}
