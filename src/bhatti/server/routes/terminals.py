"""Terminals over a WebSocket: a new session, or one that is there already."""

from contextlib import AbstractAsyncContextManager

import msgspec
from aiohttp import WSMsgType, web

from bhatti.errors import InvalidRequest
from bhatti.guestlink.client import GuestLink, TerminalStream
from bhatti.model.shells import LOGIN_SHELL
from bhatti.operations import table, types
from bhatti.server.backend import Visitor
from bhatti.server.call import Call, Handler
from bhatti.server.guest import visiting
from bhatti.server.sockets import accepted, keep_alive, say, told
from bhatti.taskgroups import together
from lohar.wire.messages import ExitReason


class Resize(msgspec.Struct, frozen=True, tag_field="type", tag="resize"):
    """The one message of a client that is not input."""

    rows: types.Port  # the same bounds: 1 to 65,535
    cols: types.Port


async def terminal(call: Call) -> web.StreamResponse:
    """Open or attach to a terminal; see the operation for what the messages are."""
    query = call.query(types.TerminalQuery)
    if query.new and query.session is not None:
        raise InvalidRequest("a session is named, and a new one wanted", hint="give one", code="invalid-field")
    program = _program(query.cmd)
    async with visiting(call, wake=query.wake) as visitor, accepted(call) as socket:
        try:
            async with _opened(visitor.link, query, program) as stream:
                visitor.work.doing = f"terminal {stream.session.session_id} is attached"
                await socket.send_str(_begin(stream))
                last = await _converse(socket, stream, query, visitor)
        except Exception as err:
            last = msgspec.json.encode(await told(call, err)).decode()
        await say(socket, last)
    return socket


def _opened(
    link: GuestLink, query: types.TerminalQuery, program: list[str]
) -> AbstractAsyncContextManager[TerminalStream]:
    if query.session is not None:
        return link.attach(query.session, since=query.since, read_only=query.read_only)
    return link.shell(
        program,
        rows=query.rows,
        cols=query.cols,
        cwd=query.cwd,
        user=query.user,
        max_idle_s=query.max_idle_sec,
    )


def _program(cmd: str | None) -> list[str]:
    if cmd is None:
        return list(LOGIN_SHELL)
    if not cmd.startswith("["):
        return [cmd]
    try:
        argv = msgspec.json.decode(cmd, type=list[str])
    except msgspec.MsgspecError as err:
        raise InvalidRequest(
            f"cmd is neither a word nor a JSON array: {err}",
            hint='for example cmd=top, or cmd=["ls", "-l"] with its quotes and brackets escaped',
            code="invalid-field",
        ) from err
    if not argv:
        raise InvalidRequest("cmd is empty", hint="leave it out for a login shell", code="invalid-field")
    return argv


async def _converse(
    socket: web.WebSocketResponse, stream: TerminalStream, query: types.TerminalQuery, visitor: Visitor
) -> str:
    """Carry bytes both ways until the program ends; raises `ConnectionResetError` if the caller leaves."""
    async with together() as tasks:
        tasks.start_soon(_take_input, socket, stream, query, visitor)
        tasks.start_soon(keep_alive, socket)
        while (data := await stream.read()) is not None:
            await socket.send_bytes(data)
        tasks.cancel_scope.cancel()
    taken = stream.exit is not None and stream.exit.reason == ExitReason.TAKEN_OVER
    return _message(type="exit", exit_code=stream.exit_code, reason=ExitReason.TAKEN_OVER if taken else None)


async def _take_input(
    socket: web.WebSocketResponse, stream: TerminalStream, query: types.TerminalQuery, visitor: Visitor
) -> None:
    """Pass on what is typed. Where the sandbox was paused meanwhile, typing lets it run on; a resize can wait."""
    async for message in socket:
        if message.type is WSMsgType.ERROR:  # what came is out of protocol; aiohttp has told the caller
            break
        if message.type is WSMsgType.TEXT:
            size = _resize(message.data)
            if size is not None:
                await stream.resize(size.rows, size.cols)
                continue
        if not query.read_only:
            await visitor.rouse()
            await stream.write(message.data.encode() if message.type is WSMsgType.TEXT else message.data)
    raise ConnectionResetError("the caller has left")


def _resize(text: str) -> Resize | None:
    """Return the resize that `text` asks for; None if it is input like any other."""
    if not text.startswith("{"):
        return None
    try:
        return msgspec.json.decode(text, type=Resize)
    except msgspec.MsgspecError:
        return None


def _begin(stream: TerminalStream) -> str:
    return _message(
        type="session",
        session_id=stream.session.session_id,
        offset=stream.position,
        end=stream.session.offset,
        start=stream.session.start,
        created_at=stream.session.created_at,
        gap=stream.gap or None,
    )


def _message(**fields: object) -> str:
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None}).decode()


HANDLERS: dict[str, Handler] = {table.TERMINAL.name: terminal}
