"""Every JSON message of the wire, the protocol's revision and the list of features.

Revision 1 is the reference protocol (part A of `docs/protocol.md`); what revision 2 adds is optional and listed in
`Feature`. Fields without default must be there; fields with one are left out of JSON when they have it, except where
the reference protocol always writes them. Names are the names in JSON. All carry `Record`'s rules: unknown keys are
ignored, keys match without regard to case, null means unset, a wrong type raises `MessageError` naming the field.
"""

from __future__ import annotations

import enum

from lohar.wire.fields import MessageError as MessageError
from lohar.wire.fields import blob, choice, flag, items, mapping, nested, number, real, text
from lohar.wire.limits import LIMITS, Limits
from lohar.wire.records import Record
from lohar.wire.records import decode_list as decode_list
from lohar.wire.records import encode_list as encode_list
from lohar.wire.volume import Volume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

REVISION = 2
"""1: the reference protocol. 2: kept-alive connections, HELLO and the features below."""

U16 = 0xFFFF
U32 = 0xFFFFFFFF
PATH_MAX = 4096
"""Linux's bound for a path, including its NUL."""
NAME_MAX = 255


class Feature(enum.StrEnum):
    """What an agent of revision 2 can say it does. A client uses what is listed and ignores names it does not know."""

    KEEP_ALIVE = "keep-alive"
    """The connection stays open after the reply that completes a request."""
    STDIN_END = "stdin-end"
    """An empty STDIN frame closes the command's stdin; `no_stdin` gives it none."""
    EXIT_INFO = "exit-info"
    """EXIT carries `ExitInfo` after the code when the request has `exit_info`."""
    EXEC_OPTIONS = "exec-options"
    """`timeout_sec`, `user`, `detach` and `output_file` of `ExecRequest`."""
    PIPED_SESSIONS = "piped-sessions"
    """`session` without `tty`: stdout and stderr kept apart, replayed on attach."""
    SESSION_CURSOR = "session-cursor"
    """`since` of `ExecRequest`; `offset`, `start` and `gap` of `SessionInfo`; `ring_bytes`."""
    SESSION_SHARING = "session-sharing"
    """`read_only`, `takeover` and `if_detached` of `ExecRequest`."""
    CHUNKED_LIST = "chunked-list"
    """`chunked` of `FileListRequest`."""
    LONG_LINES = "long-lines"
    """Truncated reads return lines of any length."""
    WATCH = "watch"
    FACTS = "facts"
    IDENTITY = "identity"
    RESUMED = "resumed"
    SYNC = "sync"


FEATURES = tuple(Feature)


class ExitReason(enum.StrEnum):
    """Why a command has ended, or why its terminal's connection has."""

    EXITED = "exited"
    """It returned; the code is its own."""
    SIGNALLED = "signalled"
    """A signal that we did not send ended it; the code is 128 + signal."""
    TIMEOUT = "timeout"
    """Its `timeout_sec` or `max_idle_sec` was over; code 137."""
    KILLED = "killed"
    """Somebody asked for it: KILL or EXEC_KILL."""
    OOM = "oom"
    """The kernel killed it, or a process of it, for want of memory; `ExitInfo.oom` says which."""
    HOST_LOST = "host-lost"
    """The connection that asked for it was lost. Seen in listings, as there is nobody left to be sent EXIT."""
    TAKEN_OVER = "taken-over"
    """The session lives on, with another client; this connection's part in it is over. Code 0."""


class WatchKind(enum.StrEnum):
    """What happened to a watched path."""

    CREATED = "created"
    MODIFIED = "modified"
    ATTRIBUTES = "attributes"
    DELETED = "deleted"
    MOVED_FROM = "moved-from"
    MOVED_TO = "moved-to"


class ExecRequest(Record):
    """EXEC_REQ. With `session_id`: attach. Else with `tty`: a terminal session. Else a piped command.

    From `timeout_sec` on: revision 2. `user` is a name or a number. `since` is the cursor from which output shall be
    replayed (all that is kept when unset). `takeover` false refuses to steal an attached session, as `if_detached`
    true does (the reference's later name for it). `kill_on_eof`: the end of the stream means that the host is lost,
    not that stdin ends; a client sets it that ends stdin with an empty STDIN frame.
    """

    argv: tuple[str, ...] = items(text(), default=())
    env: Mapping[str, str] = mapping(text(), default={})
    tty: bool = flag(default=False)
    rows: int = number(default=0, minimum=0, maximum=U16)
    cols: int = number(default=0, minimum=0, maximum=U16)
    cwd: str = text(default="", maximum=PATH_MAX)
    session_id: str = text(default="", maximum=NAME_MAX)
    max_idle_sec: int = number(default=0, minimum=0, maximum=U32)
    timeout_sec: float = real(default=0.0, maximum=U32)
    user: str = text(default="", maximum=NAME_MAX)
    no_stdin: bool = flag(default=False)
    exit_info: bool = flag(default=False)
    kill_on_eof: bool = flag(default=False)
    detach: bool = flag(default=False)
    output_file: str = text(default="", maximum=PATH_MAX)
    session: bool = flag(default=False)
    ring_bytes: int = number(default=0, minimum=0, maximum=LIMITS.max_ring_bytes)
    since: int | None = number(default=None, minimum=0)
    read_only: bool = flag(default=False)
    takeover: bool = flag(default=True)
    if_detached: bool = flag(default=False)


class SessionInfo(Record):
    """SESSION_INFO, and the members of EXEC_LIST_RESP. `argv` is one text, joined by spaces.

    From `offset` on: revision 2. `offset` counts the bytes ever produced, `start` is the oldest that is kept, `gap`
    (on attach with `since`) how many between `since` and the first byte that follows are lost.
    """

    session_id: str = text(maximum=NAME_MAX)
    argv: str = text(default="", always=True)
    tty: bool = flag(default=False, always=True)
    running: bool = flag(default=False, always=True)
    exit_code: int | None = number(default=None)
    attached: bool = flag(default=False, always=True)
    created_at: int = number(default=0, always=True)
    offset: int | None = number(default=None, minimum=0)
    start: int | None = number(default=None, minimum=0)
    gap: int | None = number(default=None, minimum=0)
    reason: ExitReason | None = choice(ExitReason, default=None)
    pid: int | None = number(default=None, minimum=0)
    watchers: int = number(default=0, minimum=0)


class SessionKill(Record):
    """EXEC_KILL."""

    session_id: str = text(maximum=NAME_MAX)


class OomKill(Record):
    """Whom the kernel killed for want of memory. `limit_bytes` is the cgroup's limit, unset if the machine ran out."""

    victim: str = text(default="", always=True)
    pid: int = number(default=0, always=True, minimum=0)
    limit_bytes: int | None = number(default=None, minimum=0)


class ExitInfo(Record):
    """What follows the code in EXIT when `ExecRequest.exit_info` asked for it."""

    reason: ExitReason = choice(ExitReason)
    signal: int | None = number(default=None, minimum=0, maximum=128)
    oom: OomKill | None = nested(OomKill, default=None)


class Detached(Record):
    """The one STDOUT frame that answers `ExecRequest.detach`, before EXIT 0."""

    pid: int = number(minimum=1)
    output_file: str = text(maximum=PATH_MAX)


class ActivityInfo(Record):
    """ACTIVITY_RESP."""

    last_activity_unix: int = number(default=0, always=True)
    active_sessions: int = number(default=0, always=True, minimum=0)
    attached_sessions: int = number(default=0, always=True, minimum=0)


class ProcessFact(Record):
    """A running command: the direct child and, in `cpu_ms`, all of its descendants that are known."""

    pid: int = number(minimum=1)
    name: str = text(default="", always=True)
    cpu_ms: int = number(default=0, always=True, minimum=0)
    session_id: str = text(default="", maximum=NAME_MAX)


class Facts(Record):
    """FACTS_RESP: what idleness is judged by. Sizes are bytes, `*_ms` since the kernel's start, counts since boot."""

    attached_sessions: int = number(default=0, always=True, minimum=0)
    active_sessions: int = number(default=0, always=True, minimum=0)
    forwards: int = number(default=0, always=True, minimum=0)
    processes: tuple[ProcessFact, ...] = items(nested(ProcessFact), default=(), always=True)
    cpu_ms: int = number(default=0, always=True, minimum=0)
    load: tuple[float, ...] = items(real(), default=(), always=True)
    memory_total: int = number(default=0, always=True, minimum=0)
    memory_available: int = number(default=0, always=True, minimum=0)
    disk_total: int = number(default=0, always=True, minimum=0)
    disk_free: int = number(default=0, always=True, minimum=0)
    oom_kills: int = number(default=0, always=True, minimum=0)
    last_activity_unix: int = number(default=0, always=True)
    uptime_ms: int = number(default=0, always=True, minimum=0)
    generation: int = number(default=0, always=True, minimum=0)


class FileReadRequest(Record):
    """FILE_READ_REQ. `offset` is a 1-based line, `limit` counts lines; zero and negative mean unset."""

    path: str = text(maximum=PATH_MAX)
    offset: int = number(default=0)
    limit: int = number(default=0)
    max_bytes: int = number(default=0)


class FileReadResponse(Record):
    """FILE_READ_RESP, before the content. `size` is the whole file's, `mode` 4 octal digits."""

    size: int = number(default=0, always=True)
    mode: str = text(default="", always=True, maximum=16)


class FileWriteRequest(Record):
    """FILE_WRITE_REQ, before `size` bytes in STDIN frames. `mode` is octal text; 0644 if empty or nonsense."""

    path: str = text(maximum=PATH_MAX)
    mode: str = text(default="", always=True, maximum=NAME_MAX)
    size: int = number(default=0, always=True)


class FileWriteResponse(Record):
    """FILE_WRITE_RESP."""

    status: str = text(default="ok", always=True, maximum=NAME_MAX)


class FileStatRequest(Record):
    """FILE_STAT_REQ."""

    path: str = text(maximum=PATH_MAX)


class FileListRequest(Record):
    """FILE_LS_REQ. `chunked` (revision 2): all entries, in as many FILE_LS_RESP as it takes, then EXIT 0."""

    path: str = text(maximum=PATH_MAX)
    chunked: bool = flag(default=False)


class FileInfo(Record):
    """FILE_STAT_RESP, and the members of FILE_LS_RESP. `mode` holds the permission bits, `mtime` unix seconds."""

    name: str = text(default="", always=True)
    size: int = number(default=0, always=True)
    mode: str = text(default="", always=True, maximum=16)
    is_dir: bool = flag(default=False, always=True)
    mtime: int = number(default=0, always=True)


class WatchRequest(Record):
    """FILE_WATCH_REQ. Ended by KILL (answer: EXIT 0) or by closing the connection."""

    path: str = text(maximum=PATH_MAX)
    recursive: bool = flag(default=False)


class WatchEvent(Record):
    """One change. `path` is absolute."""

    path: str = text()
    kind: WatchKind = choice(WatchKind)
    is_dir: bool = flag(default=False)


class WatchEvents(Record):
    """FILE_WATCH_EVENT. The first has no events: the watch stands. `overflow`: events were lost, look for yourself."""

    events: tuple[WatchEvent, ...] = items(nested(WatchEvent), default=(), always=True)
    overflow: bool = flag(default=False)


class ForwardRequest(Record):
    """FWD_REQ: a TCP port on the guest's loopback."""

    port: int = number(minimum=0, maximum=U16)


class ForwardResponse(Record):
    """FWD_RESP. `status` is "ok" or "error"; with "error", `message` says why."""

    status: str = text(maximum=NAME_MAX)
    message: str = text(default="", nul=True)


class HelloRequest(Record):
    """HELLO_REQ."""

    client: str = text(default="", maximum=NAME_MAX)
    revision: int = number(default=REVISION, always=True, minimum=1)


class Hello(Record):
    """HELLO_RESP. `boot_id` is the kernel's, so that a host can tell a resumed guest from a rebooted one."""

    agent: str = text(default="", always=True, maximum=NAME_MAX)
    revision: int = number(default=REVISION, always=True, minimum=1)
    features: tuple[str, ...] = items(text(maximum=NAME_MAX), default=tuple(map(str, FEATURES)), always=True)
    boot_id: str = text(default="", always=True, maximum=NAME_MAX)
    limits: Limits = nested(Limits, default=LIMITS, always=True)
    sandbox_id: str = text(default="", maximum=NAME_MAX)
    generation: int = number(default=0, always=True, minimum=0)


class IdentityFile(Record):
    """A file of IDENTITY: base64 in JSON; `mode` is octal text."""

    content: bytes = blob()
    mode: str = text(default="0644", maximum=16)


class Identity(Record):
    """IDENTITY_REQ: who a forked guest is from now on. A generation that was applied already is acknowledged again.

    Empty texts leave things as they are. `address` is CIDR (10.0.0.5/24). `clock_ns` is unix time. `user` and `init`
    are what the config drive would have said: the account that commands run as, and the script of session `init`.
    """

    generation: int = number(minimum=1)
    clock_ns: int = number(minimum=0)
    entropy: bytes = blob(minimum=LIMITS.entropy_bytes, maximum=4096)
    sandbox_id: str = text(default="", maximum=NAME_MAX)
    hostname: str = text(default="", maximum=64)
    token: str = text(default="", maximum=4096)
    mac: str = text(default="", maximum=17)
    address: str = text(default="", maximum=64)
    gateway: str = text(default="", maximum=64)
    dns: tuple[str, ...] = items(text(maximum=64), default=())
    env: Mapping[str, str] = mapping(text(), default={})
    files: Mapping[str, IdentityFile] = mapping(nested(IdentityFile), default={})
    user: str = text(default="", maximum=NAME_MAX)
    init: str = text(default="")
    volumes: tuple[Volume, ...] = items(nested(Volume), default=())


class IdentityResponse(Record):
    """IDENTITY_RESP: all of it is in place. `applied` is false if that generation already was."""

    generation: int = number(default=0, always=True, minimum=0)
    applied: bool = flag(default=True, always=True)


class Resumed(Record):
    """RESUMED_REQ: the guest was restored, or slept.

    The other connections are dead and the agent closes them, unless `keep_connections` says that they are not: the
    guest was only paused.
    """

    clock_ns: int = number(minimum=0)
    entropy: bytes = blob(minimum=LIMITS.entropy_bytes, maximum=4096)
    generation: int = number(default=0, always=True, minimum=0)
    keep_connections: bool = flag(default=False)


class ResumedResponse(Record):
    """RESUMED_RESP. `closed_connections` counts those that were closed, without the one that asked."""

    generation: int = number(default=0, always=True, minimum=0)
    closed_connections: int = number(default=0, always=True, minimum=0)


class SyncResponse(Record):
    """SYNC_RESP: everything written before the request is on the disks."""

    duration_ms: int = number(default=0, always=True, minimum=0)


class SystemctlRequest(Record):
    """SYSTEMCTL_REQ."""

    op: str = text(maximum=NAME_MAX)
    units: tuple[str, ...] = items(text(), default=())
    flags: tuple[str, ...] = items(text(), default=())


class SystemctlResponse(Record):
    """SYSTEMCTL_RESP."""

    exit_code: int = number(default=0, always=True)
    stdout: str = text(default="", always=True, nul=True)
    stderr: str = text(default="", always=True, nul=True)
