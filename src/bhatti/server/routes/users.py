"""Users, and who the caller is."""

from aiohttp import web

from bhatti.operations import table, types
from bhatti.server.call import Call, Handler, json_response
from bhatti.server.guard import UNDER_WAY


async def me(call: Call) -> types.Me:
    """Say who the caller is."""
    return call.backend.accounts.me(call.caller)


async def create(call: Call) -> web.Response:
    """Make a user."""
    return _told_once(call, await call.backend.accounts.create(await call.body(types.UserCreate)))


async def list_all(call: Call) -> list[types.User]:
    """List the users."""
    return call.backend.accounts.list()


async def get(call: Call) -> types.User:
    """Show one user."""
    return call.backend.accounts.get(_ref(call))


async def update(call: Call) -> types.User:
    """Change a user."""
    return await call.backend.accounts.update(_ref(call), await call.body(types.UserUpdate))


async def rotate(call: Call) -> web.Response:
    """Give a user another key; whoever holds the old one is cut off in the middle of what they do."""
    made = await call.backend.accounts.rotate(_ref(call))
    call.request.app[UNDER_WAY].cut(made.user.id)
    return _told_once(call, made)


async def remove(call: Call) -> types.Outcome:
    """Remove a user."""
    query = call.query(types.UserRemoveQuery)
    gone = await call.backend.accounts.remove(_ref(call), force=query.force)
    call.request.app[UNDER_WAY].cut(gone.id)
    return types.Outcome(status="deleted")


def _ref(call: Call) -> str:
    return call.request.match_info["user"]


def _told_once(call: Call, made: types.UserKey) -> web.Response:
    response = json_response(made, call.operation.status)
    response.headers["Cache-Control"] = "no-store"
    return response


HANDLERS: dict[str, Handler] = {
    table.ME.name: me,
    table.USER_CREATE.name: create,
    table.USER_LIST.name: list_all,
    table.USER_GET.name: get,
    table.USER_UPDATE.name: update,
    table.USER_ROTATE.name: rotate,
    table.USER_REMOVE.name: remove,
}
