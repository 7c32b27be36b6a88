"""Peers for the link to talk to: scripted ones that misbehave on purpose, and an agent of the first revision."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from lohar.wire.frames import FrameParser, FrameType, encode, encode_exit, unexpected
from lohar.wire.messages import ExecRequest, FileInfo, FileStatRequest, Hello

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The agent's end of one connection, in a test's hands."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self._parser = FrameParser()
        self._frames: list[tuple[int, bytes]] = []

    async def frame(self) -> tuple[int, bytes]:
        """Return the next frame. Raises `anyio.EndOfStream` when the link closed the connection."""
        while not self._frames:
            self._parser.feed(await self._stream.receive())
            self._frames = self._parser.frames()
        return self._frames.pop(0)

    async def expect(self, kind: int) -> bytes:
        """Return the payload of the next frame, which must be of this type."""
        got, payload = await self.frame()
        assert got == kind, f"0x{got:02x} instead of 0x{kind:02x}: {payload[:80]!r}"
        return payload

    async def send(self, kind: int, payload: bytes = b"") -> None:
        await self.send_raw(encode(kind, payload))

    async def send_raw(self, data: bytes) -> None:
        await self._stream.send(data)

    async def hello(self, features: Iterable[str] | None = None) -> None:
        """Answer HELLO as a new agent does."""
        await self.expect(FrameType.HELLO_REQ)
        hello = Hello(agent="scripted/1", boot_id="boot")
        await self.send(
            FrameType.HELLO_RESP, (hello if features is None else hello.replace(features=features)).to_json()
        )

    async def gone(self) -> None:
        """Wait until the link has closed the connection."""
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                await self.frame()

    async def reset(self) -> None:
        """Close with RST where the transport has that."""
        raw = self._stream.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self._stream.aclose()


@contextlib.asynccontextmanager
async def listening(path: Path, script: Script) -> AsyncIterator[Path]:
    """Serve every connection to the unix socket `path` with `script`; what it raises fails the test."""

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await script(Peer(stream))

    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield path
        tasks.cancel_scope.cancel()


async def old_agent(peer: Peer) -> None:
    """Be an agent of revision 1: one request, nothing of the second revision, then close."""
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        kind, payload = await peer.frame()
        if kind == FrameType.EXEC_REQ:
            await _old_exec(peer, ExecRequest.from_json(payload))
        elif kind == FrameType.FILE_STAT_REQ:
            path = anyio.Path(FileStatRequest.from_json(payload).path)
            info = FileInfo(name=path.name, size=(await path.stat()).st_size, mode="0644")
            await peer.send(FrameType.FILE_STAT_RESP, info.to_json())
        elif kind == FrameType.FILE_LS_REQ:
            await peer.send(FrameType.FILE_LS_RESP, b'[{"name":"b"},{"name":"a"}]')
        elif kind == FrameType.EXEC_LIST_REQ:
            await peer.send(FrameType.EXEC_LIST_RESP, b"null")
        else:
            await peer.send(FrameType.ERROR, unexpected(kind).encode())


async def _old_exec(peer: Peer, request: ExecRequest) -> None:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*request.argv, stdin=pipe, stdout=pipe, stderr=pipe)
    assert child.stdin is not None

    async def give_input(stdin: Any) -> None:  # noqa: ANN401 - asyncio's StreamWriter
        try:
            while True:
                kind, payload = await peer.frame()
                if kind == FrameType.STDIN:
                    stdin.write(payload)
                    await stdin.drain()
                elif kind == FrameType.KILL:
                    child.kill()
        except anyio.EndOfStream:
            stdin.close()

    async def pass_on(source: Any, kind: int) -> None:  # noqa: ANN401 - asyncio's StreamReader
        while data := await source.read(8192):
            await peer.send(kind, data)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(give_input, child.stdin)
        async with anyio.create_task_group() as outputs:
            outputs.start_soon(pass_on, child.stdout, FrameType.STDOUT)
            outputs.start_soon(pass_on, child.stderr, FrameType.STDERR)
        code = await child.wait()
        await peer.send(FrameType.EXIT, encode_exit(code if code >= 0 else 128 - code))
        tasks.cancel_scope.cancel()
