"""Forks of sandboxes, their checkpoints, and what is known of their memory snapshots."""

from bhatti.errors import (
    Busy,
    Conflict,
    CorruptData,
    EngineFailure,
    GuestTimeout,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    OutOfSpace,
    Unavailable,
)
from bhatti.operations import types
from bhatti.operations.operation import Operation, Streams

COPY_ERRORS = (NotFound, Conflict, Busy, OutOfSpace, EngineFailure, GuestTimeout, CorruptData, Unavailable)
"""What copying a sandbox can meet: none such, not in a state for it, busy, no room, and what machines can fail at."""

SANDBOX_FORK: Operation[types.SandboxFork, types.Sandbox] = Operation(
    name="sandbox.fork",
    keyed=True,
    method="POST",
    path="/sandboxes/{id}/fork",
    summary="Make a sandbox that goes on from where another one is, or was at a checkpoint, as somebody of its own.",
    request=types.SandboxFork,
    result=types.Sandbox,
    event=types.CreateEvent,
    status=201,
    errors=(*COPY_ERRORS, LimitExceeded),
    wakes=True,
    streams=Streams.EVENTS,
)
CHECKPOINT_CREATE: Operation[types.CheckpointCreate, types.Checkpoint] = Operation(
    name="checkpoint.create",
    method="POST",
    path="/sandboxes/{id}/checkpoints",
    summary="Keep a copy of a sandbox as it is now, memory and disk, to go back to or to fork from.",
    request=types.CheckpointCreate,
    result=types.Checkpoint,
    status=201,
    errors=(*COPY_ERRORS, LimitExceeded),
    wakes=True,
)
CHECKPOINT_LIST: Operation[None, list[types.Checkpoint]] = Operation(
    name="checkpoint.list",
    method="GET",
    path="/sandboxes/{id}/checkpoints",
    summary="List the checkpoints of a sandbox, oldest first.",
    result=list[types.Checkpoint],
    errors=(NotFound, InvalidRequest, Unavailable),
)
CHECKPOINT_RESTORE: Operation[None, types.Sandbox] = Operation(
    name="checkpoint.restore",
    method="POST",
    path="/sandboxes/{id}/checkpoints/{name}/restore",
    summary="Put a sandbox back to what it was at a checkpoint; what came after is lost.",
    result=types.Sandbox,
    errors=COPY_ERRORS,
)
CHECKPOINT_REMOVE: Operation[None, types.Outcome] = Operation(
    name="checkpoint.remove",
    method="DELETE",
    path="/sandboxes/{id}/checkpoints/{name}",
    summary="Remove a checkpoint; forks that were made of it go on.",
    result=types.Outcome,
    errors=(NotFound, Busy, InvalidRequest, Unavailable),
)
SNAPSHOT_VERIFY: Operation[types.SnapshotVerify, types.SnapshotReport] = Operation(
    name="snapshot.verify",
    method="POST",
    path="/sandboxes/{id}/snapshot/verify",
    summary="Say whether a sandbox that is stopped could go on where it was; its memory is not touched.",
    request=types.SnapshotVerify,
    result=types.SnapshotReport,
    errors=(NotFound, Conflict, Busy, InvalidRequest, Unavailable),
)

OPERATIONS: tuple[Operation[object, object], ...] = (
    SANDBOX_FORK,
    CHECKPOINT_CREATE,
    CHECKPOINT_LIST,
    CHECKPOINT_RESTORE,
    CHECKPOINT_REMOVE,
    SNAPSHOT_VERIFY,
)
