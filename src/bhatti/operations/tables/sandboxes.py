"""Sandboxes: making, listing, showing, changing, pausing, resuming, stopping, starting and ending them."""

from bhatti.errors import (
    Busy,
    Conflict,
    CorruptData,
    EngineFailure,
    GuestTimeout,
    InvalidRequest,
    LimitExceeded,
    MissingDependency,
    NotFound,
    OutOfSpace,
    Unavailable,
)
from bhatti.operations import types
from bhatti.operations.operation import Operation, Streams

SANDBOX_CREATE: Operation[types.SandboxCreate, types.Sandbox] = Operation(
    name="sandbox.create",
    keyed=True,
    method="POST",
    path="/sandboxes",
    summary="Make a sandbox and wait until it answers.",
    request=types.SandboxCreate,
    result=types.Sandbox,
    event=types.CreateEvent,
    status=201,
    errors=(
        NotFound,
        Conflict,
        LimitExceeded,
        OutOfSpace,
        MissingDependency,
        EngineFailure,
        GuestTimeout,
        CorruptData,
        Unavailable,
    ),
    streams=Streams.EVENTS,
)
SANDBOX_LIST: Operation[None, list[types.Sandbox]] = Operation(
    name="sandbox.list",
    method="GET",
    path="/sandboxes",
    summary="List the sandboxes, newest first.",
    query=types.SandboxFilter,
    result=list[types.Sandbox],
    errors=(Unavailable,),
)
SANDBOX_GET: Operation[None, types.Sandbox] = Operation(
    name="sandbox.get",
    method="GET",
    path="/sandboxes/{id}",
    summary="Show one sandbox as it is now.",
    result=types.Sandbox,
    errors=(NotFound, Unavailable),
)
SANDBOX_EDIT: Operation[types.SandboxEdit, types.Sandbox] = Operation(
    name="sandbox.edit",
    method="PATCH",
    path="/sandboxes/{id}",
    summary="Change name, labels or idle times of a sandbox. One that sleeps sleeps on.",
    request=types.SandboxEdit,
    result=types.Sandbox,
    errors=(NotFound, Conflict, OutOfSpace, InvalidRequest, Unavailable),
)
SANDBOX_PAUSE: Operation[None, types.Sandbox] = Operation(
    name="sandbox.pause",
    method="POST",
    path="/sandboxes/{id}/pause",
    summary="Halt a sandbox, its memory and connections kept. The next call into it lets it run on.",
    result=types.Sandbox,
    errors=(NotFound, Conflict, Busy, EngineFailure, InvalidRequest, Unavailable),
)
SANDBOX_RESUME: Operation[None, types.Sandbox] = Operation(
    name="sandbox.resume",
    method="POST",
    path="/sandboxes/{id}/resume",
    summary="Let a paused sandbox run on.",
    result=types.Sandbox,
    errors=(NotFound, Conflict, Busy, EngineFailure, GuestTimeout, InvalidRequest, Unavailable),
)
SANDBOX_STOP: Operation[types.SandboxStop, types.Sandbox] = Operation(
    name="sandbox.stop",
    method="POST",
    path="/sandboxes/{id}/stop",
    summary="Put a sandbox to sleep: its memory goes to the disk, its process ends. The next call into it wakes it.",
    request=types.SandboxStop,
    result=types.Sandbox,
    errors=(NotFound, Conflict, Busy, OutOfSpace, EngineFailure, InvalidRequest, Unavailable),
)
SANDBOX_START: Operation[types.SandboxStart, types.Sandbox] = Operation(
    name="sandbox.start",
    method="POST",
    path="/sandboxes/{id}/start",
    summary="Wake a sandbox that is stopped, or boot one that has failed. `how` says which way it came up, `why` why.",
    request=types.SandboxStart,
    result=types.Sandbox,
    errors=(
        NotFound,
        Conflict,
        Busy,
        OutOfSpace,
        EngineFailure,
        GuestTimeout,
        CorruptData,
        InvalidRequest,
        Unavailable,
    ),
)
SANDBOX_DESTROY: Operation[None, types.Outcome] = Operation(
    name="sandbox.destroy",
    method="DELETE",
    path="/sandboxes/{id}",
    summary="End a sandbox and remove all it had, disk included.",
    result=types.Outcome,
    errors=(NotFound, Busy, EngineFailure, Unavailable),
)

OPERATIONS: tuple[Operation[object, object], ...] = (
    SANDBOX_CREATE,
    SANDBOX_LIST,
    SANDBOX_GET,
    SANDBOX_EDIT,
    SANDBOX_PAUSE,
    SANDBOX_RESUME,
    SANDBOX_STOP,
    SANDBOX_START,
    SANDBOX_DESTROY,
)
