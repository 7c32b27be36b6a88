"""The table of operations. Paths and status codes are the reference protocol's where it has them.

A new operation is one entry here, its types in `types`, and one handler in `bhatti.server.routes`; the server refuses
to start while an entry has no handler.
"""

from bhatti.errors import (
    Busy,
    Conflict,
    CorruptData,
    EngineFailure,
    GuestFailure,
    GuestTimeout,
    InvalidRequest,
    LimitExceeded,
    MissingDependency,
    NotFound,
    OutOfSpace,
    Unavailable,
)
from bhatti.operations import types
from bhatti.operations.operation import Operation, Scope, Streams

API_REVISION = "1"
"""Sent with every answer as `X-Bhatti-Api`; grows when a client must know that something has changed."""

GUEST_ERRORS = (NotFound, Conflict, GuestFailure, GuestTimeout, Unavailable)
"""What every call into a guest can meet: no such sandbox, not running, refused by the agent, no answer."""

HEALTH: Operation[None, types.Health] = Operation(
    name="health",
    method="GET",
    path="/health",
    summary="Say whether the daemon serves.",
    result=types.Health,
    scope=Scope.PUBLIC,
)
VERSION: Operation[None, types.Version] = Operation(
    name="version",
    method="GET",
    path="/version",
    summary="Say which daemon this is.",
    result=types.Version,
)
DOCTOR: Operation[None, types.DoctorReport] = Operation(
    name="doctor",
    method="GET",
    path="/doctor",
    summary="Look at what this machine can do and what it lacks.",
    result=types.DoctorReport,
    scope=Scope.ADMIN,
)
SANDBOX_CREATE: Operation[types.SandboxCreate, types.Sandbox] = Operation(
    name="sandbox.create",
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
SANDBOX_STOP: Operation[None, types.Sandbox] = Operation(
    name="sandbox.stop",
    method="POST",
    path="/sandboxes/{id}/stop",
    summary="Put a sandbox to sleep: its memory goes to the disk, its process ends. The next call into it wakes it.",
    result=types.Sandbox,
    errors=(NotFound, Conflict, Busy, OutOfSpace, EngineFailure, InvalidRequest, Unavailable),
)
SANDBOX_START: Operation[None, types.Sandbox] = Operation(
    name="sandbox.start",
    method="POST",
    path="/sandboxes/{id}/start",
    summary="Wake a sandbox that is stopped, or boot one that has failed. `how` says which way it came up, `why` why.",
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
EXEC: Operation[types.ExecRequest, types.ExecResult] = Operation(
    name="exec",
    method="POST",
    path="/sandboxes/{id}/exec",
    summary="Run a command and return its output, or stream it as it comes.",
    request=types.ExecRequest,
    result=types.ExecResult,
    event=types.ExecEvent,
    errors=GUEST_ERRORS,
    wakes=True,
    streams=Streams.EVENTS,
)
EXEC_SOCKET: Operation[types.ExecRequest, None] = Operation(
    name="exec.socket",
    method="GET",
    path="/sandboxes/{id}/exec/ws",
    summary=(
        "Run a command over a WebSocket. The first message is the request, as JSON text. Then binary messages, whose "
        "first byte says what the others are: 01 stdin (nothing after it: end of input), 07 kill; back come 02 stdout "
        "and 03 stderr. The last message is JSON text: an event of type `exit` or `error`."
    ),
    request=types.ExecRequest,
    event=types.ExecEvent,
    status=101,
    errors=GUEST_ERRORS,
    wakes=True,
    streams=Streams.SOCKET,
)
TERMINAL: Operation[None, None] = Operation(
    name="terminal",
    method="GET",
    path="/sandboxes/{id}/ws",
    summary=(
        "Open a terminal, or attach to one, over a WebSocket. Binary messages are the terminal's bytes, both ways. "
        'Text to the guest is input too, unless it is `{"type": "resize", "rows": R, "cols": C}`. Text from the '
        "guest is JSON: `session` at the beginning (id, byte offset, bytes lost), `exit` or `error` at the end."
    ),
    query=types.TerminalQuery,
    status=101,
    errors=GUEST_ERRORS,
    wakes=True,
    streams=Streams.SOCKET,
)
SESSION_LIST: Operation[None, list[types.Session]] = Operation(
    name="session.list",
    method="GET",
    path="/sandboxes/{id}/sessions",
    summary="List the sessions that run in a sandbox.",
    result=list[types.Session],
    errors=GUEST_ERRORS,
    wakes=True,
)
FILE_READ: Operation[None, list[types.FileEntry]] = Operation(
    name="file.read",
    method="GET",
    path="/sandboxes/{id}/files",
    summary="Read a file, whole or some lines of it; with `ls=true` list a directory.",
    query=types.FileQuery,
    result=list[types.FileEntry],
    errors=GUEST_ERRORS,
    wakes=True,
    streams=Streams.DOWNLOAD,
)
FILE_STAT: Operation[None, None] = Operation(
    name="file.stat",
    method="HEAD",
    path="/sandboxes/{id}/files",
    summary="Describe a file in the headers X-File-Size, X-File-Mode and X-File-IsDir.",
    query=types.FileQuery,
    errors=GUEST_ERRORS,
    wakes=True,
)
FILE_WRITE: Operation[None, types.Outcome] = Operation(
    name="file.write",
    method="PUT",
    path="/sandboxes/{id}/files",
    summary="Write the body to a file, which appears whole or not at all; missing directories are made.",
    query=types.FileWriteQuery,
    result=types.Outcome,
    errors=GUEST_ERRORS,
    wakes=True,
    streams=Streams.UPLOAD,
)
PROXY: Operation[None, None] = Operation(
    name="proxy",
    method="*",
    path="/sandboxes/{id}/proxy/{port}/{rest:.*}",
    summary="Pass any HTTP request, upgrades included, to a port inside the sandbox.",
    errors=GUEST_ERRORS,
    wakes=True,
    streams=Streams.RELAY,
)
IMAGE_LIST: Operation[None, list[types.Image]] = Operation(
    name="image.list",
    method="GET",
    path="/images",
    summary="List the images.",
    result=list[types.Image],
    errors=(Unavailable,),
)
IMAGE_BUILD: Operation[types.ImageBuild, types.Image] = Operation(
    name="image.build",
    method="POST",
    path="/images/build",
    summary="Build what is missing of an image; streams its progress.",
    request=types.ImageBuild,
    result=types.Image,
    event=types.BuildEvent,
    errors=(MissingDependency, OutOfSpace, CorruptData, NotFound, Unavailable),
    scope=Scope.ADMIN,
    streams=Streams.EVENTS,
)
IMPORT_ERRORS = (NotFound, CorruptData, LimitExceeded, OutOfSpace, MissingDependency, EngineFailure, Unavailable)
"""What taking an image over can meet: not there, not what its digest says, too large, no room, no root, no network."""

IMAGE_IMPORT: Operation[types.ImageImport, types.Image] = Operation(
    name="image.import",
    method="POST",
    path="/images/import",
    summary="Take over an image from an archive or a layout on the daemon's machine; streams its progress.",
    request=types.ImageImport,
    result=types.Image,
    event=types.BuildEvent,
    errors=IMPORT_ERRORS,
    scope=Scope.ADMIN,
    streams=Streams.EVENTS,
)
IMAGE_PULL: Operation[types.ImagePull, types.Image] = Operation(
    name="image.pull",
    method="POST",
    path="/images/pull",
    summary="Take over an image from a registry; streams its progress.",
    request=types.ImagePull,
    result=types.Image,
    event=types.BuildEvent,
    errors=IMPORT_ERRORS,
    scope=Scope.ADMIN,
    streams=Streams.EVENTS,
)
IMAGE_REMOVE: Operation[None, types.Outcome] = Operation(
    name="image.remove",
    method="DELETE",
    path="/images/{name}",
    summary="Remove an image that no sandbox needs.",
    result=types.Outcome,
    errors=(NotFound, Conflict, Unavailable),
    scope=Scope.ADMIN,
)

ALL: tuple[Operation[object, object], ...] = (
    HEALTH,
    VERSION,
    DOCTOR,
    SANDBOX_CREATE,
    SANDBOX_LIST,
    SANDBOX_GET,
    SANDBOX_STOP,
    SANDBOX_START,
    SANDBOX_DESTROY,
    EXEC,
    EXEC_SOCKET,
    TERMINAL,
    SESSION_LIST,
    FILE_READ,
    FILE_STAT,
    FILE_WRITE,
    PROXY,
    IMAGE_LIST,
    IMAGE_BUILD,
    IMAGE_IMPORT,
    IMAGE_PULL,
    IMAGE_REMOVE,
)
"""Every operation, in the order in which documents list them."""
