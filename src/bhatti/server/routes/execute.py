"""Commands: buffered, as a stream of events, or over a WebSocket."""

import base64
import codecs
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Literal

import anyio
import msgspec
from aiohttp import WSMsgType, web

from bhatti.errors import InvalidRequest
from bhatti.guestlink.client import ExecStream, Exit, GuestLink, Stderr, Stdout
from bhatti.operations import table, types
from bhatti.server.backend import Visitor
from bhatti.server.call import Call, Handler, decoded
from bhatti.server.events import EventStream
from bhatti.server.failures import ours
from bhatti.server.guest import entered, explained, visiting
from bhatti.server.sockets import accepted, keep_alive, say, told
from bhatti.taskgroups import together
from lohar.wire.frames import FrameType

FIRST_MESSAGE_S = 10.0
"""Expected: with the handshake's own packet. Who has not said by then what to run never will."""

STDIN, STDOUT, STDERR, KILL = (
    bytes([kind]) for kind in (FrameType.STDIN, FrameType.STDOUT, FrameType.STDERR, FrameType.KILL)
)


async def run(call: Call) -> types.ExecResult | web.StreamResponse:
    """Run a command; a caller who goes away takes it with him."""
    request = await call.body(types.ExecRequest)
    if request.output_file is not None and not request.detach:
        raise InvalidRequest(
            "the output of a command that is waited for is in the answer", hint="`detach` it", code="invalid-field"
        )
    async with entered(call) as link:
        if request.detach:
            return await _detached(link, request)
        if call.wants_events():
            return await _streamed(call, link, request)
        return await _buffered(link, request)


async def _buffered(link: GuestLink, request: types.ExecRequest) -> types.ExecResult:
    result = await link.exec(
        request.cmd,
        env=request.env,
        cwd=request.cwd,
        user=request.user,
        stdin=_stdin(request),
        timeout_s=request.timeout_sec,
        max_output_bytes=request.max_output_bytes,
    )
    return types.ExecResult(
        exit_code=result.exit_code,
        stdout=_text(request, result.stdout),
        stderr=_text(request, result.stderr),
        reason=str(result.reason),
        truncated=result.truncated,
    )


async def _detached(link: GuestLink, request: types.ExecRequest) -> types.ExecResult:
    if request.stdin is not None:
        raise InvalidRequest(
            "a detached command has no stdin",
            hint="write a file and redirect the command's input, or do not detach it",
            code="invalid-field",
        )
    left = await link.detach(
        request.cmd, env=request.env, cwd=request.cwd, user=request.user, output_file=request.output_file
    )
    return types.ExecResult(exit_code=0, detached=True, pid=left.pid, output_file=left.output_file)


async def _streamed(call: Call, link: GuestLink, request: types.ExecRequest) -> web.StreamResponse:
    events = EventStream[types.ExecEvent](call)
    encoders = {Stdout: _encoder(request), Stderr: _encoder(request)}
    async with _started(link, request) as stream:
        await events.begin()
        try:
            async for event in stream:
                if isinstance(event, Exit):
                    for kind, encode in encoders.items():
                        if rest := encode(b"", True):
                            await events.send(types.ExecEvent(type=_name(kind), data=rest))
                    await events.send(_exit_event(event))
                elif text := encoders[type(event)](event.data, False):
                    await events.send(types.ExecEvent(type=_name(type(event)), data=text))
        except ConnectionError:  # the caller has left
            raise
        except Exception as err:
            await events.send(types.ExecEvent.of(ours(await explained(call, err), call.request, call.request_id)))
    return await events.end()


async def over_socket(call: Call) -> web.StreamResponse:
    """Run a command over a WebSocket; see the operation for what the messages are."""
    async with visiting(call) as visitor, accepted(call) as socket:
        try:
            with anyio.fail_after(FIRST_MESSAGE_S):
                first = await socket.receive()
            if first.type is not WSMsgType.TEXT:
                raise InvalidRequest(
                    "the first message is the request, as JSON text", hint="docs/api.md shows one", code="invalid-json"
                )
            request = decoded(first.data.encode(), types.ExecRequest)
            async with _started(visitor.link, request) as stream:
                last: types.Event = await _converse(socket, stream, visitor)
        except TimeoutError:
            last = types.Event.of(InvalidRequest("no request came", hint="send it as the first message, as JSON text"))
        except Exception as err:
            last = await told(call, err)
        await say(socket, msgspec.json.encode(last).decode())
    return socket


async def _converse(socket: web.WebSocketResponse, stream: ExecStream, visitor: Visitor) -> types.ExecEvent:
    """Carry output out and input in, until the command ends; raises `ConnectionResetError` if the caller leaves."""
    last = types.ExecEvent(type="error", error="the command's stream ended without its exit", code="unavailable")
    async with together() as tasks:
        tasks.start_soon(_take_input, socket, stream, visitor)
        tasks.start_soon(keep_alive, socket)
        async for event in stream:
            if isinstance(event, Exit):
                last = _exit_event(event)
            else:
                await socket.send_bytes((STDOUT if isinstance(event, Stdout) else STDERR) + event.data)
        tasks.cancel_scope.cancel()
    return last


async def _take_input(socket: web.WebSocketResponse, stream: ExecStream, visitor: Visitor) -> None:
    """Pass on what comes. Where the sandbox was paused meanwhile, that lets it run on: an end or a kill as well."""
    async for message in socket:
        if message.type is not WSMsgType.BINARY:
            raise InvalidRequest(
                "after the request, messages are binary",
                hint="send the first byte of each as docs/api.md says",
                code="invalid-request",
            )
        kind, data = message.data[:1], message.data[1:]
        await visitor.rouse()
        if kind == STDIN and data:
            await stream.send_stdin(data)
        elif kind == STDIN:
            await stream.close_stdin()
        elif kind == KILL:
            await stream.kill()
        else:
            raise InvalidRequest(
                f"unexpected message type {kind.hex()}", hint="docs/api.md says which there are", code="invalid-request"
            )
    raise ConnectionResetError("the caller has left")


@contextlib.asynccontextmanager
async def _started(link: GuestLink, request: types.ExecRequest) -> AsyncIterator[ExecStream]:
    async with link.stream(
        request.cmd, env=request.env, cwd=request.cwd, user=request.user, timeout_s=request.timeout_sec
    ) as stream:
        if (stdin := _stdin(request)) is not None:
            await stream.send_stdin(stdin)
            await stream.close_stdin()
        yield stream


def _stdin(request: types.ExecRequest) -> bytes | None:
    if request.stdin is None or request.encoding == "utf-8":
        return None if request.stdin is None else request.stdin.encode()
    try:
        return base64.b64decode(request.stdin, validate=True)
    except ValueError as err:
        raise InvalidRequest(
            f"stdin is not base64: {err}", hint="encode it, or send it over the WebSocket", code="invalid-field"
        ) from err


def _text(request: types.ExecRequest, data: bytes) -> str:
    return base64.b64encode(data).decode() if request.encoding == "base64" else data.decode(errors="replace")


def _encoder(request: types.ExecRequest) -> Callable[[bytes, bool], str]:
    """Return what turns pieces of one stream into text; a character cut in two by a piece's end comes out whole."""
    if request.encoding == "base64":
        return lambda data, final: base64.b64encode(data).decode()
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return decoder.decode


def _name(kind: type) -> Literal["stdout", "stderr"]:
    return "stdout" if kind is Stdout else "stderr"


def _exit_event(event: Exit) -> types.ExecEvent:
    return types.ExecEvent(type="exit", exit_code=event.code, reason=str(event.reason))


HANDLERS: dict[str, Handler] = {table.EXEC.name: run, table.EXEC_SOCKET.name: over_socket}
