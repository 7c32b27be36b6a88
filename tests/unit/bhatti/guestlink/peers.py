"""Peers for the link to talk to: scripted ones that misbehave on purpose, and an agent of the first revision."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import anyio

from lohar.wire.frames import FrameParser, FrameType, encode, encode_exit, unexpected
from lohar.wire.messages import ExecRequest, FileInfo, FileStatRequest, Hello

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The agent's end of one connection, in a test's hands."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._parser = FrameParser()
        self._frames: list[tuple[int, bytes]] = []

    async def frame(self) -> tuple[int, bytes]:
        """Return the next frame. Raises `anyio.EndOfStream` when the link closed the connection."""
        while not self._frames:
            data = await self._loop.sock_recv(self.sock, 65536)
            if not data:
                raise anyio.EndOfStream
            self._parser.feed(data)
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
        await self._loop.sock_sendall(self.sock, data)

    async def hello(self, features: Iterable[str] | None = None) -> None:
        """Answer HELLO as a new agent does."""
        await self.expect(FrameType.HELLO_REQ)
        hello = Hello(agent="scripted/1", boot_id="boot")
        await self.send(
            FrameType.HELLO_RESP, (hello if features is None else hello.replace(features=features)).to_json()
        )

    async def gone(self) -> None:
        """Wait until the link has closed the connection."""
        with contextlib.suppress(anyio.EndOfStream, ConnectionError):
            while True:
                await self.frame()


@contextlib.asynccontextmanager
async def listening(path: Path, script: Script) -> AsyncIterator[Path]:
    """Serve every connection to the unix socket `path` with `script`; what it raises fails the test."""
    loop = asyncio.get_running_loop()

    async def serve(sock: socket.socket) -> None:
        with sock:
            await script(Peer(sock))

    async def accept() -> None:
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setblocking(False)
            tasks.start_soon(serve, sock)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.setblocking(False)
        listener.bind(str(path))
        listener.listen(100)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accept)
            yield path
            tasks.cancel_scope.cancel()


async def old_agent(peer: Peer) -> None:
    """Be an agent of revision 1: one request, nothing of the second revision, then close."""
    with contextlib.suppress(anyio.EndOfStream, ConnectionError):
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
