import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from bhatti.engines.docker.connection import MAX_LINE_BYTES, DockerConnection
from bhatti.errors import EngineFailure, MissingDependency, NotFound, Unavailable

pytestmark = pytest.mark.anyio


class Answer(msgspec.Struct):
    number: int


Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def peer(path: Path, behave: Behave) -> AsyncIterator[DockerConnection]:
    """Something that listens where a Docker should, and behaves in its own way."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await behave(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path / "docker.sock")
    connection = DockerConnection(path / "docker.sock")
    async with server:
        yield connection
        await connection.aclose()


def saying(*pieces: bytes) -> Behave:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return behave


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_an_answer_is_decoded_as_what_is_expected(tmp_path: Path) -> None:
    async with peer(tmp_path, saying(ok(b'{"number": 7, "other": 1}'))) as docker:
        assert (await docker.ask(Answer, "GET", "/x", timeout_s=5)).number == 7


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"number": "seven"}', b'{"number": 7'])
async def test_an_answer_of_another_shape_is_incomprehensible(tmp_path: Path, body: bytes) -> None:
    async with peer(tmp_path, saying(ok(body))) as docker:
        with pytest.raises(EngineFailure) as caught:
            await docker.ask(Answer, "GET", "/x", timeout_s=5)
    assert caught.value.code == "docker-incomprehensible"


async def test_a_refusal_is_told_in_the_words_of_docker(tmp_path: Path) -> None:
    body = b'{"message":"No such container: x"}'
    refusal = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with peer(tmp_path, saying(refusal)) as docker:
        with pytest.raises(NotFound, match=r"GET /x: No such container: x"):
            await docker.ask(Answer, "GET", "/x", timeout_s=5)


async def test_a_refusal_that_is_not_json_is_told_as_it_is(tmp_path: Path) -> None:
    async with peer(tmp_path, saying(b"HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\nbroken")) as docker:
        with pytest.raises(EngineFailure, match="GET /x: broken"):
            await docker.ask(Answer, "GET", "/x", timeout_s=5)


async def test_every_call_ends_at_its_deadline(tmp_path: Path) -> None:
    async with peer(tmp_path, say_nothing) as docker:
        with pytest.raises(Unavailable, match=r"within 0\.2 s: GET /x") as caught:
            await docker.ask(Answer, "GET", "/x", timeout_s=0.2)
    assert caught.value.code == "docker-timeout"


@pytest.mark.parametrize("pieces", [(), (b"HTTP/1.1 200 OK\r\nContent-Le",), (ok(b'{"number": 7}')[:-4],)])
async def test_a_docker_that_goes_away_in_the_middle_is_unavailable(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    async with peer(tmp_path, saying(*pieces)) as docker:
        with pytest.raises(Unavailable) as caught:
            await docker.ask(Answer, "GET", "/x", timeout_s=5)
    assert caught.value.code == "docker-unavailable"


async def test_what_does_not_speak_http_is_unavailable(tmp_path: Path) -> None:
    async with peer(tmp_path, saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")) as docker:
        with pytest.raises(Unavailable):
            await docker.ask(Answer, "GET", "/x", timeout_s=5)


async def test_no_socket_is_a_missing_docker(tmp_path: Path) -> None:
    docker = DockerConnection(tmp_path / "nothing.sock")
    with pytest.raises(MissingDependency) as caught:
        await docker.ask(Answer, "GET", "/x", timeout_s=5)
    await docker.aclose()
    assert caught.value.code == "docker-missing"
    assert "apt install docker.io" in str(caught.value.hint)


async def test_a_socket_that_nobody_serves_is_a_docker_that_does_not_run(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale.sock"))
    docker = DockerConnection(tmp_path / "stale.sock")
    with pytest.raises(Unavailable) as caught:
        await docker.ask(Answer, "GET", "/x", timeout_s=5)
    await docker.aclose()
    assert "systemctl" in str(caught.value.hint)


async def test_lines_come_one_by_one_however_they_are_cut(tmp_path: Path) -> None:
    pieces = [chunk(b'{"number": 1}\n{"num'), chunk(b'ber": 2}\r\n'), chunk(b'\n{"number": 3}'), b"0\r\n\r\n"]
    async with peer(tmp_path, saying(CHUNKED, *pieces)) as docker:
        found = [line.number async for line in docker.lines(Answer, "GET", "/x", silence_s=5)]
    assert found == [1, 2, 3]


async def test_silence_between_lines_is_bounded(tmp_path: Path) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b'{"number": 1}\n'))
        await reader.read()

    async with peer(tmp_path, behave) as docker:
        lines = docker.lines(Answer, "GET", "/x", silence_s=0.2)
        assert (await anext(lines)).number == 1
        with pytest.raises(Unavailable) as caught:
            await anext(lines)
    assert caught.value.code == "docker-timeout"


async def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(chunk(bytes(64 << 10)))
                await writer.drain()

    async with peer(tmp_path, behave) as docker:
        with pytest.raises(EngineFailure, match=f"more than {MAX_LINE_BYTES}"):
            async for _ in docker.lines(Answer, "GET", "/x", silence_s=5):
                pass


async def test_nothing_stays_open_after_a_call(tmp_path: Path) -> None:
    async with peer(tmp_path, saying(ok(b'{"number": 7}'))) as docker:
        await docker.ask(Answer, "GET", "/x", timeout_s=5)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # memory, not a disk
        for _ in range(50):
            await docker.ask(Answer, "GET", "/x", timeout_s=5)
        # The peer in this process closes its end a little later.
        assert len(os.listdir("/proc/self/fd")) < before + 10  # noqa: PTH208  # memory, not a disk
