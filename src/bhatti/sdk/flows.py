"""Every call on a sandbox as steps (`sdk.steps`): what to ask, in which order, without the asking."""

import base64
import os
import stat
from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote

from bhatti.errors import BhattiError, InvalidRequest, NotFound
from bhatti.operations import table, types
from bhatti.operations.operation import Operation
from bhatti.sdk import talks
from bhatti.sdk.client import decoded, refusal
from bhatti.sdk.results import FileStat, HttpAnswer, Result, Spawned
from bhatti.sdk.steps import Exchange, Local, Reply, Steps, called, exchanged

Req = TypeVar("Req")
Res = TypeVar("Res")

Command = str | Sequence[str]
Env = Mapping[str, str]
Entries = list[types.FileEntry]
Sessions = list[types.Session]
Checkpoints = list[types.Checkpoint]
Listening = list[types.ListeningPort]
Publications = list[types.Publication]

OURS = "x-bhatti-api"
"""The header that only the daemon's own answers have, as opposed to those that it passes on."""

URL_SAFE = "%/:=&?~#+!$,;'@()*[]"
"""What may stand in a request's target as it is; everything else is escaped."""


class Flows:
    """What is known of one sandbox, and the steps of each call on it."""

    def __init__(self, info: types.Sandbox) -> None:
        self.info = info
        self._directory: str | None = None

    # --- the sandbox itself

    def inspect(self) -> Steps[types.Sandbox]:
        """Ask how it is."""
        return (yield from self._changed(table.SANDBOX_GET))

    def stop(self, memory: bool | None) -> Steps[types.Sandbox]:
        """Put it to sleep."""
        return (yield from self._changed(table.SANDBOX_STOP, types.SandboxStop(memory=memory)))

    def start(self, memory: bool) -> Steps[types.Sandbox]:
        """Wake it."""
        return (yield from self._changed(table.SANDBOX_START, types.SandboxStart(memory=memory)))

    def pause(self) -> Steps[types.Sandbox]:
        """Halt it."""
        return (yield from self._changed(table.SANDBOX_PAUSE))

    def resume(self) -> Steps[types.Sandbox]:
        """Let it run on."""
        return (yield from self._changed(table.SANDBOX_RESUME))

    def edit(self, request: types.SandboxEdit) -> Steps[types.Sandbox]:
        """Change what can be changed."""
        self.info = yield from called(table.SANDBOX_EDIT, request, id=self.info.id)
        return self.info

    def fork(self, request: types.SandboxFork) -> Steps[types.Sandbox]:
        """Make another that goes on from where it is."""
        return (yield from called(table.SANDBOX_FORK, request, id=self.info.id))

    def checkpoint(self, name: str) -> Steps[types.Checkpoint]:
        """Keep a copy of it."""
        return (yield from called(table.CHECKPOINT_CREATE, types.CheckpointCreate(name=name), id=self.info.id))

    def checkpoints(self) -> Steps[Checkpoints]:
        """List its copies."""
        return (yield from called(table.CHECKPOINT_LIST, id=self.info.id))

    def restore(self, name: str) -> Steps[types.Sandbox]:
        """Put it back to a copy."""
        self.info = yield from called(table.CHECKPOINT_RESTORE, id=self.info.id, name=name)
        return self.info

    def remove_checkpoint(self, name: str) -> Steps[None]:
        """Remove a copy."""
        yield from called(table.CHECKPOINT_REMOVE, id=self.info.id, name=name)

    def destroy(self) -> Steps[None]:
        """End it; one that is gone already is what was wanted."""
        try:
            yield from called(table.SANDBOX_DESTROY, id=self.info.id)
        except NotFound:
            return

    def _changed(self, operation: Operation[Req, types.Sandbox], request: Req | None = None) -> Steps[types.Sandbox]:
        self.info = yield from called(operation, request, id=self.info.id)
        return self.info

    # --- commands

    def run(self, command: Command, request: types.ExecRequest) -> Steps[Result]:
        """Run a command without input to its end."""
        ended = yield from called(table.EXEC, request, id=self.info.id)
        return Result(
            command=talks.shown(command),
            exit_code=ended.exit_code,
            stdout_bytes=base64.b64decode(ended.stdout),
            stderr_bytes=base64.b64decode(ended.stderr),
            reason=ended.reason,
            truncated=ended.truncated,
        )

    def spawn(self, request: types.ExecRequest) -> Steps[Spawned]:
        """Start a command that goes on by itself."""
        left = yield from called(table.EXEC, request, id=self.info.id)
        return Spawned(left.pid or 0, left.output_file or "")

    def sessions(self) -> Steps[Sessions]:
        """List the sessions."""
        return (yield from called(table.SESSION_LIST, id=self.info.id))

    def kill_session(self, session_id: str) -> Steps[None]:
        """End a session."""
        yield from called(table.SESSION_KILL, id=self.info.id, session=session_id)

    # --- files

    def read(self, path: str) -> Steps[bytes]:
        """Read a file."""
        query = {"path": (yield from self._resolved(path))}
        return (yield from self._file(table.FILE_READ, query)).body

    def write(self, path: str, data: bytes, mode: int) -> Steps[None]:
        """Write a file."""
        query = {"path": (yield from self._resolved(path)), "mode": f"{mode:04o}"}
        yield from self._file(table.FILE_WRITE, query, body=data)

    def list(self, path: str) -> Steps[Entries]:
        """List a directory."""
        query = {"path": (yield from self._resolved(path)), "ls": "true"}
        reply = yield from self._file(table.FILE_READ, query)
        return decoded(reply.body, Entries)

    def stat(self, path: str) -> Steps[FileStat]:
        """Describe a file."""
        query = {"path": (yield from self._resolved(path))}
        try:
            found = (yield from self._file(table.FILE_STAT, query)).headers
        except BhattiError:
            # An answer to HEAD has no words. Those of a read are the same; one byte, if the file has come meanwhile.
            yield from self._file(table.FILE_READ, {**query, "max_bytes": "1"})
            raise
        return FileStat(
            size=int(found["x-file-size"]),
            mode=found["x-file-mode"],
            is_dir=found["x-file-isdir"] == "true",
            mtime=int(found.get("x-file-mtime", "0")),
        )

    def mkdir(self, path: str, mode: int) -> Steps[None]:
        """Make a directory and those above it."""
        request = types.DirectoryMake(path=(yield from self._resolved(path)), mode=f"{mode:04o}")
        yield from called(table.FILE_MKDIR, request, id=self.info.id)

    def remove(self, path: str, recursive: bool) -> Steps[None]:
        """Remove a file or a directory."""
        query = {"path": (yield from self._resolved(path)), **({"recursive": "true"} if recursive else {})}
        yield from called(table.FILE_REMOVE, None, query, id=self.info.id)

    def move(self, source: str, target: str) -> Steps[None]:
        """Give a file or directory another name."""
        yield from called(table.FILE_MOVE, (yield from self._pair(source, target)), id=self.info.id)

    def copy(self, source: str, target: str) -> Steps[None]:
        """Copy a file or directory within the sandbox."""
        yield from called(table.FILE_COPY, (yield from self._pair(source, target)), id=self.info.id)

    def watch(self, path: str, recursive: bool, timeout: float | None) -> Steps[dict[str, str]]:
        """Return what to ask for, to be told what happens to files."""
        query = {"path": (yield from self._resolved(path))}
        if recursive:
            query["recursive"] = "true"
        if timeout is not None:
            query["timeout_sec"] = str(timeout)
        return query

    def upload(self, local: str, path: str) -> Steps[None]:
        """Send a file, or a directory with all in it, to the sandbox."""
        path = yield from self._resolved(path)
        mode: str | None = yield Local(lambda: None if os.path.isdir(local) else _mode(local))  # noqa: PTH112 - text
        if mode is None:
            yield from self._file(table.FILE_UNPACK, {"path": path}, source=local, tree=True)
        else:
            yield from self._file(table.FILE_WRITE, {"path": path, "mode": mode}, source=local)

    def download(self, path: str, local: str) -> Steps[None]:
        """Fetch a file, or a directory with all in it, from the sandbox."""
        path = yield from self._resolved(path)
        if (yield from self.stat(path)).is_dir:
            yield from self._file(table.FILE_PACK, {"path": path}, sink=local, tree=True)
        else:
            yield from self._file(table.FILE_READ, {"path": path}, sink=local)

    def _pair(self, source: str, target: str) -> Steps[types.FileMove]:
        return types.FileMove(source=(yield from self._resolved(source)), target=(yield from self._resolved(target)))

    def _file(
        self,
        operation: Operation[None, Res],
        query: dict[str, str],
        *,
        body: bytes | None = None,
        source: str | None = None,
        sink: str | None = None,
        tree: bool = False,
    ) -> Steps[Reply]:
        target = operation.target({"id": self.info.id}, query)
        exchange = Exchange(method=operation.method, target=target, body=body, source=source, sink=sink, tree=tree)
        return (yield from exchanged(exchange))

    def _resolved(self, path: str) -> Steps[str]:
        """Return `path` as an absolute one: relative to where commands run, which is asked for once."""
        if path.startswith("/"):
            return path
        if self._directory is None:
            asked = types.ExecRequest(cmd=["pwd"], encoding="base64")
            self._directory = (yield from self.run("pwd", asked)).check().stdout.rstrip("\n")
        return self._directory if path in ("", ".") else f"{self._directory.rstrip('/')}/{path}"

    # --- ports

    def ports(self) -> Steps[Listening]:
        """List the ports on which programs in it listen."""
        return (yield from called(table.PORT_LIST, id=self.info.id))

    def publish(self, port: int, alias: str | None) -> Steps[types.Publication]:
        """Publish a port."""
        return (yield from called(table.PUBLISH, types.PublishRequest(port=port, alias=alias), id=self.info.id))

    def published(self) -> Steps[Publications]:
        """List what is published."""
        return (yield from called(table.PUBLISH_LIST, id=self.info.id))

    def unpublish(self, port: int) -> Steps[None]:
        """Publish a port no more; one that is not published is what was wanted."""
        try:
            yield from called(table.UNPUBLISH, id=self.info.id, port=str(port))
        except NotFound as err:
            if err.code != "not-published":
                raise

    def url(self, port: int) -> Steps[str]:
        """Find where a port is published."""
        for found in (yield from self.published()):
            if found.port == port and found.url is not None:
                return found.url
        raise NotFound(
            f"port {port} of sandbox {self.info.name!r} is not published",
            hint="`publish` publishes it; `ports.forward` has it on this machine",
            code="not-published",
        )

    def request(self, method: str, port: int, path: str, headers: Env, body: bytes | None) -> Steps[HttpAnswer]:
        """Send an HTTP request to a web server in the sandbox; whatever that answers is an answer."""
        if not path.startswith("/"):
            raise InvalidRequest(
                f"the path {path!r} does not begin with /", hint="for example /health", code="bad-path"
            )
        target = f"{table.PROXY.path.removesuffix('/{rest:.*}')}{path}"
        target = target.replace("{id}", self.info.id).replace("{port}", str(port))
        target = quote(target, safe=URL_SAFE)
        reply: Reply = yield Exchange(method=method, target=target, headers=tuple(headers.items()), body=body)
        if reply.status >= 400 and OURS in reply.headers:
            raise refusal(reply.whom, reply.status, reply.reason, reply.body)
        return HttpAnswer(reply.status, reply.headers, reply.body)


def injected(files: Mapping[str, bytes | str] | None) -> list[types.FileInjection]:
    """Return the files that are to be there from the beginning."""
    return [types.FileInjection(guest_path=path, content=talks.as_bytes(data)) for path, data in (files or {}).items()]


def exec_request(
    command: Command,
    *,
    timeout: float | None = None,
    env: Env | None = None,
    cwd: str | None = None,
    user: str | None = None,
    max_output_bytes: int = types.DEFAULT_OUTPUT_BYTES,
    detach: bool = False,
) -> types.ExecRequest:
    """Return the request for a command."""
    return types.ExecRequest(
        cmd=talks.argv(command),
        timeout_sec=timeout,
        env=dict(env or {}),
        cwd=cwd,
        user=user,
        encoding="base64",
        max_output_bytes=max_output_bytes,
        detach=detach,
    )


def _mode(path: str) -> str:
    return f"{stat.S_IMODE(os.stat(path).st_mode) & 0o777:04o}"  # noqa: PTH116 - paths are text here


def create(request: types.SandboxCreate) -> Steps[types.Sandbox]:
    """Make a sandbox."""
    return (yield from called(table.SANDBOX_CREATE, request))


def connect(ref: str) -> Steps[types.Sandbox]:
    """Find a sandbox by its name or id."""
    return (yield from called(table.SANDBOX_GET, id=ref))


def list_all() -> Steps[list[types.Sandbox]]:
    """List the sandboxes."""
    return (yield from called(table.SANDBOX_LIST))
