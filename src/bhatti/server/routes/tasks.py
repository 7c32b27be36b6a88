"""Long work."""

import contextlib

import anyio
from aiohttp import web

from bhatti.operations import table, types
from bhatti.server.call import Call, Handler
from bhatti.server.events import EventStream
from bhatti.server.failures import ours
from bhatti.taskgroups import together

ALIVE_S = 15.0
"""Often enough that neither side's proxies think the connection dead."""


async def start(call: Call) -> types.Task:
    """Begin to make an image."""
    return await call.backend.start_task(await call.body(types.TaskStart), call.caller)


async def list_all(call: Call) -> list[types.Task]:
    """List the tasks."""
    return call.backend.tasks.list(call.caller)


async def get(call: Call) -> types.Task:
    """Show one task."""
    return call.backend.tasks.get(call.caller, _task(call))


async def cancel(call: Call) -> types.Task:
    """Ask a task to end."""
    return call.backend.tasks.cancel(call.caller, _task(call))


async def wait(call: Call) -> types.Task | web.StreamResponse:
    """Wait for the end of a task; as a stream, tell its steps."""
    query = call.query(types.TaskWaitQuery)
    task_id = call.backend.tasks.get(call.caller, _task(call)).id
    steps = call.backend.tasks.follow(call.caller, task_id)
    if not call.wants_events():
        with anyio.move_on_after(query.timeout_sec):
            async with contextlib.aclosing(steps):
                async for _ in steps:
                    pass
        return call.backend.tasks.get(call.caller, task_id)
    stream = EventStream[types.TaskEvent](call)
    await stream.begin()
    try:
        with anyio.move_on_after(query.timeout_sec) as whole:
            async with contextlib.aclosing(steps), together() as tasks:
                tasks.start_soon(_keep_alive, stream)
                async for task in steps:
                    await stream.send(types.TaskEvent(type="task", task=task))
                tasks.cancel_scope.cancel()
        if whole.cancelled_caught:
            await stream.send(types.TaskEvent(type="task", task=call.backend.tasks.get(call.caller, task_id)))
    except ConnectionError:  # the caller has left
        raise
    except Exception as err:
        await stream.send(types.TaskEvent.of(ours(err, call.request, call.request_id)))
    return await stream.end()


async def _keep_alive(stream: EventStream[types.TaskEvent]) -> None:
    while True:
        await anyio.sleep(ALIVE_S)
        await stream.send(types.TaskEvent(type="alive"))


def _task(call: Call) -> str:
    return call.request.match_info["task"]


HANDLERS: dict[str, Handler] = {
    table.TASK_START.name: start,
    table.TASK_LIST.name: list_all,
    table.TASK_GET.name: get,
    table.TASK_WAIT.name: wait,
    table.TASK_CANCEL.name: cancel,
}
