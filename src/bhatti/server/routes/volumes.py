"""Volumes."""

from bhatti.operations import table, types
from bhatti.server.call import Call, Handler
from bhatti.server.volumes import VolumeBackend


async def create(call: Call) -> types.Volume:
    """Make an empty volume."""
    return await _volumes(call).create(await call.body(types.VolumeCreate))


async def list_all(call: Call) -> list[types.Volume]:
    """List the volumes."""
    return await _volumes(call).list()


async def get(call: Call) -> types.Volume:
    """Show one volume."""
    return await _volumes(call).get(_name(call))


async def remove(call: Call) -> types.Outcome:
    """Remove a volume."""
    await _volumes(call).remove(_name(call))
    return types.Outcome(status="deleted")


async def resize(call: Call) -> types.Volume:
    """Make a volume larger."""
    return await _volumes(call).resize(_name(call), await call.body(types.VolumeResize))


async def clone(call: Call) -> types.Volume:
    """Copy a volume."""
    return await _volumes(call).clone(_name(call), await call.body(types.VolumeClone))


def _volumes(call: Call) -> VolumeBackend:
    return call.backend.volumes.of(call.caller)


def _name(call: Call) -> str:
    return call.request.match_info["name"]


HANDLERS: dict[str, Handler] = {
    table.VOLUME_CREATE.name: create,
    table.VOLUME_LIST.name: list_all,
    table.VOLUME_GET.name: get,
    table.VOLUME_REMOVE.name: remove,
    table.VOLUME_RESIZE.name: resize,
    table.VOLUME_CLONE.name: clone,
}
