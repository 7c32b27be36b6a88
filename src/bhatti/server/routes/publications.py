"""Publishing ports."""

from aiohttp import web

from bhatti.operations import table, types
from bhatti.server.call import Call, Handler, json_response
from bhatti.server.routes.ports import port_of


async def publish(call: Call) -> web.Response:
    """Publish a port."""
    found, new = await call.backend.publications.publish(call.ref, await call.body(types.PublishRequest))
    again = call.operation.again
    assert again is not None
    return json_response(found, call.operation.status if new else again)


async def list_of_one(call: Call) -> list[types.Publication]:
    """List what is published of one sandbox."""
    return call.backend.publications.list(call.ref)


async def list_all(call: Call) -> list[types.Publication]:
    """List what is published of all sandboxes of the caller."""
    return call.backend.publications.list(caller=call.caller)


async def unpublish(call: Call) -> web.Response:
    """Publish a port no more."""
    await call.backend.publications.unpublish(call.ref, port_of(call))
    return web.Response(status=call.operation.status)


HANDLERS: dict[str, Handler] = {
    table.PUBLISH.name: publish,
    table.PUBLISH_LIST.name: list_of_one,
    table.PUBLISH_LIST_ALL.name: list_all,
    table.UNPUBLISH.name: unpublish,
}
