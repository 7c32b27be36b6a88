"""What happens inside a sandbox: commands, terminals, sessions."""

from typing import Annotated, Literal

import msgspec

from bhatti.operations.documents.base import Answer, Event, Request
from bhatti.operations.documents.files import FilePath

MAX_EXEC_TIMEOUT_S = 86_400.0
"""A day; what runs longer is a service and belongs into a session."""

DEFAULT_OUTPUT_BYTES = 10 << 20
MAX_OUTPUT_BYTES = 64 << 20
"""Buffered output is held in memory twice (as bytes and as JSON); stream what is larger."""


class ExecRequest(Request, frozen=True, kw_only=True):
    """A command to run.

    `timeout_sec` ends it with its process group; without it, it may run for ever. `stdin` and the output are text
    (undecodable output becomes U+FFFD) unless `encoding` is `base64`. With `detach` the command goes on when the call
    returns, its output in a file of the guest: `output_file`, or one in /tmp.
    """

    cmd: Annotated[list[str], msgspec.Meta(min_length=1)]
    env: dict[str, str] = {}
    cwd: str | None = None
    user: Annotated[str, msgspec.Meta(min_length=1, max_length=32)] | None = None
    stdin: str | None = None
    encoding: Literal["utf-8", "base64"] = "utf-8"
    timeout_sec: Annotated[float, msgspec.Meta(gt=0, le=MAX_EXEC_TIMEOUT_S)] | None = None
    max_output_bytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_OUTPUT_BYTES)] = DEFAULT_OUTPUT_BYTES
    detach: bool = False
    output_file: FilePath | None = None


class ExecResult(Answer, frozen=True, kw_only=True):
    """How a command ended. `reason` is `exited`, `signalled`, `timeout`, `killed`, `oom` or `host-lost`.

    `truncated` says that output beyond the limit was dropped. `pid` and `output_file` answer a detached command.
    """

    exit_code: int
    stdout: str = ""
    stderr: str = ""
    reason: str = "exited"
    truncated: bool = False
    detached: bool = False
    pid: int | None = None
    output_file: str | None = None


class ExecEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a command's stream: pieces of output as they come, at the end `exit` or `error`."""

    type: Literal["stdout", "stderr", "exit", "error"]
    data: str | None = None
    exit_code: int | None = None
    reason: str | None = None


class TerminalQuery(Request, frozen=True, kw_only=True):
    """How a terminal begins: a new one of that size, or `session`, from byte `since` on.

    `new` insists on what happens without a `session`.

    `cmd` is the program of a new terminal, as one word or as a JSON array; without it, a login shell. Without `wake` a
    sandbox that sleeps is left asleep, and the call refused as `asleep`: for who comes back to a terminal unasked.
    """

    rows: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 24
    cols: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 80
    cmd: str | None = None
    cwd: str | None = None
    user: str | None = None
    session: str | None = None
    new: bool = False
    since: Annotated[int, msgspec.Meta(ge=0)] | None = None
    read_only: bool = False
    wake: bool = True
    max_idle_sec: Annotated[int, msgspec.Meta(ge=0)] = 3600


class Session(Answer, frozen=True, kw_only=True):
    """A terminal or piped session of the guest; `argv` is its command line in one string.

    `created_at` is unix time. `offset` counts the bytes it ever produced, `start` is the oldest that is kept.
    """

    session_id: str
    argv: str
    tty: bool
    running: bool
    attached: bool
    created_at: int
    exit_code: int | None = None
    offset: int | None = None
    start: int | None = None
