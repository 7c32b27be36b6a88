"""Making, listing, showing, changing, pausing, stopping, starting and ending sandboxes."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from bhatti.operations import table, types
from bhatti.server.backend import StageCallback
from bhatti.server.call import Call, Handler
from bhatti.server.events import streamed


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

    async def work(tell: Callable[[types.CreateEvent], None]) -> types.CreateEvent:
        made = await make(lambda stage: tell(types.CreateEvent(type="stage", stage=stage)))
        return types.CreateEvent(type="sandbox", sandbox=made)

    return await streamed(call, types.CreateEvent, work)


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
    return await call.backend.start_sandbox(call.ref, await call.body(types.SandboxStart))


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
