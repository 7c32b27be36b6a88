"""Which request is served by what: one function for each type, in one table."""

from __future__ import annotations

from lohar import __version__
from lohar.download import read_file
from lohar.exec import PipedExec, start_detached
from lohar.facts import boot_id
from lohar.failures import RequestError
from lohar.files import FileList, stat_file
from lohar.identity import apply_identity, apply_resumed
from lohar.sync import Sync
from lohar.upload import Upload
from lohar.wire.frames import FrameType, encode_exit, unexpected
from lohar.wire.messages import (
    ExecRequest,
    FileListRequest,
    FileReadRequest,
    FileStatRequest,
    FileWriteRequest,
    Hello,
    HelloRequest,
    Identity,
    IdentityResponse,
    MessageError,
    Resumed,
    ResumedResponse,
    SessionKill,
    WatchRequest,
    encode_list,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lohar.agent import Agent
    from lohar.connection import Connection
    from lohar.operation import Operation

    Handler = Callable[[Agent, Connection, bytes], Operation | None]


def serve_request(agent: Agent, connection: Connection, kind: int, payload: bytes) -> Operation | None:
    """Serve the first frame of a request: answer it, or return the operation that will.

    Raises `RequestError` and `MessageError` for what the client did wrong, `OSError` for what the machine lacks.
    """
    entry = HANDLERS.get(kind)
    if entry is None:
        raise RequestError(unexpected(kind))
    name, handler = entry
    try:
        return handler(agent, connection, payload)
    except MessageError as error:
        raise RequestError(f"bad {name} request: {error}") from error


def _exec(agent: Agent, connection: Connection, payload: bytes) -> Operation | None:
    agent.note_activity()
    request = ExecRequest.from_json(payload)
    if request.session_id:
        return agent.sessions.attach(connection, request)
    if not request.argv:
        raise RequestError("empty argv")
    if request.tty or request.session:
        return agent.sessions.open(connection, request)
    if request.detach:
        start_detached(connection, agent.commands, request)
        return None
    return PipedExec(connection, agent.loop, agent.commands, request)


def _list_sessions(agent: Agent, connection: Connection, _payload: bytes) -> None:
    connection.send(FrameType.EXEC_LIST_RESP, encode_list(agent.sessions.list()))


def _kill_session(agent: Agent, connection: Connection, payload: bytes) -> None:
    agent.sessions.kill(SessionKill.from_json(payload).session_id)
    connection.send(FrameType.EXIT, encode_exit(0))


def _activity(agent: Agent, connection: Connection, _payload: bytes) -> None:
    connection.send(FrameType.ACTIVITY_RESP, agent.activity().to_json())


def _facts(agent: Agent, connection: Connection, _payload: bytes) -> None:
    connection.send(FrameType.FACTS_RESP, agent.facts().to_json())


def _read(agent: Agent, connection: Connection, payload: bytes) -> Operation | None:
    agent.note_activity()
    return read_file(connection, agent.loop, FileReadRequest.from_json(payload))


def _write(agent: Agent, connection: Connection, payload: bytes) -> Operation:
    agent.note_activity()
    request = FileWriteRequest.from_json(payload)
    return Upload(connection, agent.worker, request, agent.commands.owner, agent.limits)


def _stat(_agent: Agent, connection: Connection, payload: bytes) -> None:
    info = stat_file(FileStatRequest.from_json(payload).path)
    connection.send(FrameType.FILE_STAT_RESP, info.to_json())


def _list_files(agent: Agent, connection: Connection, payload: bytes) -> Operation:
    return FileList(connection, agent.loop, FileListRequest.from_json(payload), agent.limits)


def _watch(agent: Agent, connection: Connection, payload: bytes) -> Operation:
    # Imported when somebody watches: it needs ctypes.
    from lohar.watch import Watch

    return Watch(connection, agent.loop, WatchRequest.from_json(payload), agent.limits)


def _hello(agent: Agent, connection: Connection, payload: bytes) -> None:
    HelloRequest.from_json(payload or b"{}")
    agent.greeted = connection.keep_alive = True
    hello = Hello(
        agent=f"lohar/{__version__}",
        boot_id=boot_id(),
        limits=agent.limits,
        sandbox_id=agent.config.sandbox_id,
        generation=agent.config.generation,
    )
    connection.send(FrameType.HELLO_RESP, hello.to_json())


def _identity(agent: Agent, connection: Connection, payload: bytes) -> None:
    identity = Identity.from_json(payload)
    applied = identity.generation != agent.config.generation
    if applied:
        agent.configure(apply_identity(agent.config, identity))
    answer = IdentityResponse(generation=agent.config.generation, applied=applied)
    connection.send(FrameType.IDENTITY_RESP, answer.to_json())
    if applied and identity.init:
        agent.start_init(identity.init)


def _resumed(agent: Agent, connection: Connection, payload: bytes) -> None:
    resumed = Resumed.from_json(payload)
    apply_resumed(agent.config, resumed)
    closed = 0 if resumed.keep_connections else agent.drop_others(connection)
    answer = ResumedResponse(generation=agent.config.generation, closed_connections=closed)
    connection.send(FrameType.RESUMED_RESP, answer.to_json())


def _sync(agent: Agent, connection: Connection, _payload: bytes) -> Operation:
    return Sync(connection, agent.worker)


HANDLERS: dict[int, tuple[str, Handler]] = {
    FrameType.EXEC_REQ: ("exec", _exec),
    FrameType.EXEC_LIST_REQ: ("list", _list_sessions),
    FrameType.EXEC_KILL: ("kill", _kill_session),
    FrameType.ACTIVITY_REQ: ("activity", _activity),
    FrameType.FACTS_REQ: ("facts", _facts),
    FrameType.FILE_READ_REQ: ("read", _read),
    FrameType.FILE_WRITE_REQ: ("write", _write),
    FrameType.FILE_STAT_REQ: ("stat", _stat),
    FrameType.FILE_LS_REQ: ("list", _list_files),
    FrameType.FILE_WATCH_REQ: ("watch", _watch),
    FrameType.HELLO_REQ: ("hello", _hello),
    FrameType.IDENTITY_REQ: ("identity", _identity),
    FrameType.RESUMED_REQ: ("resumed", _resumed),
    FrameType.SYNC_REQ: ("sync", _sync),
}
"""The name is what a malformed request is called in its ERROR."""
