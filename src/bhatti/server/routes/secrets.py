"""Secrets."""

from bhatti.operations import table, types
from bhatti.server.call import Call, Handler


async def put(call: Call) -> types.Secret:
    """Keep a secret."""
    return await call.backend.secrets.put(await call.body(types.SecretSet), call.caller)


async def list_all(call: Call) -> list[types.Secret]:
    """List the caller's secrets."""
    return await call.backend.secrets.list(call.caller)


async def get(call: Call) -> types.Secret:
    """Show one secret, but for its value."""
    return await call.backend.secrets.get(_name(call), call.caller)


async def remove(call: Call) -> types.Outcome:
    """Forget a secret."""
    await call.backend.secrets.remove(_name(call), call.caller)
    return types.Outcome(status="deleted")


async def rotate_key(call: Call) -> types.KeyRotation:
    """Encrypt all secrets with a new key."""
    return await call.backend.secrets.rotate_key()


def _name(call: Call) -> str:
    return call.request.match_info["name"]


HANDLERS: dict[str, Handler] = {
    table.SECRET_SET.name: put,
    table.SECRET_LIST.name: list_all,
    table.SECRET_GET.name: get,
    table.SECRET_REMOVE.name: remove,
    table.SECRET_ROTATE_KEY.name: rotate_key,
}
