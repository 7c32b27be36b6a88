"""What happens inside a sandbox: commands, terminals, sessions."""

from bhatti.errors import (
    Conflict,
    GuestFailure,
    GuestTimeout,
    NotFound,
    Unavailable,
)
from bhatti.operations import types
from bhatti.operations.operation import Operation, Streams

GUEST_ERRORS = (NotFound, Conflict, GuestFailure, GuestTimeout, Unavailable)
"""What every call into a guest can meet: no such sandbox, not running, refused by the agent, no answer."""

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
        "guest is JSON: `session` at the beginning (id, byte offset, the `end` of what was written so far, bytes lost, "
        "when it was made), `exit` or `error` at the end; an `exit` with the reason `taken-over` says that somebody "
        "else has attached instead."
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
SESSION_KILL: Operation[None, types.Outcome] = Operation(
    name="session.kill",
    method="DELETE",
    path="/sandboxes/{id}/sessions/{session}",
    summary="End a session: its program and all it has started are killed.",
    result=types.Outcome,
    errors=GUEST_ERRORS,
    wakes=True,
)
OPERATIONS: tuple[Operation[object, object], ...] = (
    EXEC,
    EXEC_SOCKET,
    TERMINAL,
    SESSION_LIST,
    SESSION_KILL,
)
