"""Requests and answers of the API, as JSON carries them. Names of fields are those of the reference protocol's API.

Requests refuse fields they do not know, so that a misspelt option is an error and not silence. `*_mb` are MiB (2**20
bytes), as in the reference; inside, the same values are called `*_mib`.
"""

import datetime
from typing import Annotated, Literal, Self

import msgspec

from bhatti.errors import BhattiError
from bhatti.model.sandbox import Status, Temperature

Seconds = float
Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]

MAX_EXEC_TIMEOUT_S = 86_400.0
"""A day; what runs longer is a service and belongs into a session."""

DEFAULT_OUTPUT_BYTES = 10 << 20
MAX_OUTPUT_BYTES = 64 << 20
"""Buffered output is held in memory twice (as bytes and as JSON); stream what is larger."""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all requests."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the lines of a stream: what it is in `type`; when that is `error`, the words of an error answer."""

    type: str
    error: str | None = None
    code: str | None = None
    hint: str | None = None
    kind: str | None = None

    @classmethod
    def of(cls, error: BhattiError) -> Self:
        """Return the event that says `error`."""
        body = error.body()
        return cls(type="error", error=body.error, code=body.code, hint=body.hint, kind=body.kind)


# --- the daemon


class Health(Answer, frozen=True, kw_only=True):
    """Whether the daemon serves. `status` is `starting` until recovery is over; `uptime` is in seconds."""

    status: Literal["ok", "starting", "stopping"]
    sandboxes: int
    uptime: Seconds


class Version(Answer, frozen=True, kw_only=True):
    """What runs there."""

    version: str
    api: str
    engine: str
    python: str
    pid: int


class Check(Answer, frozen=True, kw_only=True):
    """One thing that the doctor looked at; `hint` says how to mend what is not `ok`."""

    name: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    hint: str | None = None


class DoctorReport(Answer, frozen=True, kw_only=True):
    """What this machine can do and what it lacks; `ok` when nothing failed. `apt` are the packages to install."""

    ok: bool
    checks: list[Check]
    apt: list[str] = []


# --- sandboxes


class FileInjection(Request, frozen=True, kw_only=True):
    """A file to put into the guest before its first command; `content` is base64 in JSON, `mode` octal text."""

    guest_path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    content: bytes
    mode: Annotated[str, msgspec.Meta(pattern=r"^0?[0-7]{3,4}$")] = "0644"


class SandboxCreate(Request, frozen=True, kw_only=True):
    """What is wanted. Everything has a default; `name` becomes `sandbox-` and six hex digits."""

    name: str | None = None
    image: str | None = None
    cpus: int | None = None
    memory_mb: int | None = None
    disk_size_mb: int | None = None
    user: Annotated[str, msgspec.Meta(min_length=1, max_length=32)] | None = None
    env: dict[str, str] = {}
    files: list[FileInjection] = []
    init: str | None = None


class Cause(Answer, frozen=True, kw_only=True):
    """Why a sandbox is not running: kind, words for people, the last lines of its console."""

    kind: str
    detail: str
    console_tail: str = ""


class Sandbox(Answer, frozen=True, kw_only=True):
    """A sandbox as it is now. `how` and `why` say which way it came to life; `timings_ms` what each part took."""

    id: str
    name: str
    status: Status
    thermal: Temperature
    image: str
    cpus: int
    memory_mb: int
    disk_size_mb: int
    created_at: datetime.datetime
    engine: str
    engine_id: str
    ip: str | None = None
    accelerator: str = ""
    how: str = ""
    why: str = ""
    timings_ms: dict[str, float] = {}
    engine_meta: dict[str, str] = {}
    template_id: str | None = None
    created_by: str = ""
    stopped_at: datetime.datetime | None = None
    cause: Cause | None = None


class CreateEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a creation's stream: `stage` as each part begins, at the end `sandbox` or `error`."""

    type: Literal["stage", "sandbox", "error"]
    stage: str = ""
    sandbox: Sandbox | None = None


class Outcome(Answer, frozen=True, kw_only=True):
    """What became of something, in one word (`destroyed`, `deleted`, `ok`)."""

    status: str


# --- commands


class ExecRequest(Request, frozen=True, kw_only=True):
    """A command to run.

    `timeout_sec` ends it with its process group; without it, it may run for ever. `stdin` and the output are text
    (undecodable output becomes U+FFFD) unless `encoding` is `base64`. With `detach` the command goes on when the call
    returns, its output in a file of the guest.
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

    `cmd` is the program of a new terminal, as one word or as a JSON array; without it, a login shell.
    """

    rows: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 24
    cols: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 80
    cmd: str | None = None
    cwd: str | None = None
    user: str | None = None
    session: str | None = None
    since: Annotated[int, msgspec.Meta(ge=0)] | None = None
    read_only: bool = False
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


# --- files


class FileQuery(Request, frozen=True, kw_only=True):
    """Which file, and how much of it: from line `offset` (1 is the first), `limit` lines, `max_bytes` at most."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    ls: bool = False
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=0)] = 0
    max_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0


class FileWriteQuery(Request, frozen=True, kw_only=True):
    """Where the body goes, and the mode of the new file as octal text."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    mode: Annotated[str, msgspec.Meta(pattern=r"^0?[0-7]{3,4}$")] = "0644"


class FileEntry(Answer, frozen=True, kw_only=True):
    """A file as `ls` lists it: octal `mode`, `mtime` in unix seconds."""

    name: str
    size: int
    mode: str
    is_dir: bool
    mtime: int


# --- images


class Image(Answer, frozen=True, kw_only=True):
    """An image that sandboxes can be made from.

    `size_bytes` is the size of its file system, `stored_bytes` what that takes on the disk, `source` where it is from.
    """

    name: str
    digest: str
    size_bytes: int
    stored_bytes: int
    created_at: datetime.datetime
    kernel: str = ""
    source: str = ""


class ImageBuild(Request, frozen=True, kw_only=True):
    """Which image to build. What is there already is not built again, unless `refresh` asks for newer packages."""

    name: str = "base"
    refresh: bool = False


class ImageImport(Request, frozen=True, kw_only=True):
    """An image on the daemon's machine: `docker-archive:FILE`, `oci-archive:FILE` or `oci:DIR`, absolute paths.

    `:TAG` after the path chooses one of several. Without `name` the image keeps the one that it has there.
    """

    source: Annotated[str, msgspec.Meta(min_length=1, max_length=4608)]
    name: str | None = None


class ImagePull(Request, frozen=True, kw_only=True):
    """An image of a registry, such as `alpine:3.19`. Without `name` it is called `alpine-3.19`.

    `insecure` allows plain HTTP to machines other than the daemon's. Without `username` the daemon's own Docker
    configuration is asked for credentials.
    """

    reference: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    name: str | None = None
    insecure: bool = False
    username: str = ""
    password: str = ""


class BuildEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a build's stream: `done` of `total` units of `stage`, at the end `image` or `error`."""

    type: Literal["progress", "image", "error"]
    stage: str = ""
    done: int = 0
    total: int = 0
    image: Image | None = None
