"""Templates."""

from bhatti.operations import table, types
from bhatti.server.call import Call, Handler


async def create(call: Call) -> types.Template:
    """Make a template."""
    return await call.backend.templates.create(await call.body(types.TemplateSet), call.caller)


async def list_all(call: Call) -> list[types.Template]:
    """List the caller's templates."""
    return await call.backend.templates.list(call.caller)


async def get(call: Call) -> types.Template:
    """Show one template."""
    return await call.backend.templates.get(_ref(call), call.caller)


async def replace(call: Call) -> types.Template:
    """Write a template anew."""
    return await call.backend.templates.replace(_ref(call), await call.body(types.TemplateSet), call.caller)


async def remove(call: Call) -> types.Outcome:
    """Remove a template."""
    await call.backend.templates.remove(_ref(call), call.caller)
    return types.Outcome(status="deleted")


def _ref(call: Call) -> str:
    return call.request.match_info["template"]


HANDLERS: dict[str, Handler] = {
    table.TEMPLATE_CREATE.name: create,
    table.TEMPLATE_LIST.name: list_all,
    table.TEMPLATE_GET.name: get,
    table.TEMPLATE_REPLACE.name: replace,
    table.TEMPLATE_REMOVE.name: remove,
}
