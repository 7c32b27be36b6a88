"""Forking sandboxes; keeping, listing and using checkpoints; checking memory snapshots."""

from aiohttp import web

from bhatti.operations import table, types
from bhatti.server.call import Call, Handler
from bhatti.server.routes.sandboxes import creation


async def fork(call: Call) -> types.Sandbox | web.StreamResponse:
    """Make a sandbox from another; as a stream, the stages are told as they begin."""
    request = await call.body(types.SandboxFork)
    repeat = call.repeat(request)
    return await creation(call, lambda on_stage: call.backend.fork(call.ref, request, on_stage, call.caller, repeat))


async def create(call: Call) -> types.Checkpoint:
    """Keep a checkpoint."""
    request = await call.body(types.CheckpointCreate)
    return await call.backend.checkpoint(call.ref, request.name)


async def list_all(call: Call) -> list[types.Checkpoint]:
    """List the checkpoints of a sandbox."""
    return await call.backend.checkpoints(call.ref)


async def restore(call: Call) -> types.Sandbox:
    """Put a sandbox back to a checkpoint."""
    return await call.backend.restore_checkpoint(call.ref, call.request.match_info["name"])


async def remove(call: Call) -> types.Outcome:
    """Remove a checkpoint."""
    await call.backend.remove_checkpoint(call.ref, call.request.match_info["name"])
    return types.Outcome(status="deleted")


async def verify(call: Call) -> types.SnapshotReport:
    """Check the memory snapshot of a stopped sandbox."""
    request = await call.body(types.SnapshotVerify)
    return await call.backend.verify_snapshot(call.ref, request)


HANDLERS: dict[str, Handler] = {
    table.SANDBOX_FORK.name: fork,
    table.CHECKPOINT_CREATE.name: create,
    table.CHECKPOINT_LIST.name: list_all,
    table.CHECKPOINT_RESTORE.name: restore,
    table.CHECKPOINT_REMOVE.name: remove,
    table.SNAPSHOT_VERIFY.name: verify,
}
