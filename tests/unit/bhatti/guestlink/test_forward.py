import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import anyio.abc
import pytest
from tests.unit.bhatti.guestlink.peers import Peer, listening

from bhatti.errors import BhattiError, GuestFailure, GuestTimeout, Unavailable
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.deadlines import Deadlines
from bhatti.guestlink.transports import UnixTransport
from lohar.wire.frames import FrameType, encode

pytestmark = pytest.mark.anyio

MEBIBYTE = 1 << 20


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A TCP listener on the guest's loopback, which in test mode is ours."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    """A service that sends everything back, and a last word once it has seen the end."""

    async def echo(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            with contextlib.suppress(anyio.BrokenResourceError):
                async for data in stream:
                    await stream.send(data)
                await stream.send(b"bye")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as server, anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, echo)
        yield server.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


async def test_bytes_go_both_ways_and_each_end_by_itself(link: GuestLink, echo_port: int) -> None:
    async with link.forward(echo_port) as stream:
        await stream.send(b"ping")
        assert await stream.receive() == b"ping"
        await stream.send_eof()
        assert await stream.receive() == b"bye"
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


async def test_much_goes_through_unharmed_in_both_directions_at_once(link: GuestLink, echo_port: int) -> None:
    data = os.urandom(4 * MEBIBYTE)
    received = bytearray()
    async with link.forward(echo_port) as stream:

        async def send() -> None:
            await stream.send(data)
            await stream.send_eof()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            async for part in stream:
                received += part
    assert received == data + b"bye"


async def test_many_forwards_at_once_do_not_mix(link: GuestLink, echo_port: int) -> None:
    async def talk(number: int) -> None:
        async with link.forward(echo_port) as stream:
            await stream.send(b"%04d" % number)
            seen = b""
            while len(seen) < 4:
                seen += await stream.receive()
            assert seen == b"%04d" % number

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(talk, number)


async def test_receiving_takes_no_more_than_asked_for(link: GuestLink, echo_port: int) -> None:
    async with link.forward(echo_port) as stream:
        await stream.send(b"abcdef")
        assert await stream.receive(2) == b"ab"


async def test_a_port_that_nobody_listens_on_is_refused(link: GuestLink, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(GuestFailure, match="refused") as caught:
        async with link.forward(port):
            pass
    assert caught.value.code == "connection-refused"


async def test_a_reset_is_a_broken_resource(link: GuestLink, echo_port: int) -> None:
    async with link.forward(echo_port) as stream:
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"x")
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send_eof()


async def test_closing_wakes_who_receives(link: GuestLink, echo_port: int) -> None:
    async with link.forward(echo_port) as stream, anyio.create_task_group() as tasks:

        async def receive() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await stream.receive()

        tasks.start_soon(receive)
        await anyio.sleep(0.01)
        await stream.aclose()


async def forward_to(path: Path, *, reply_s: float = 5.0) -> None:
    """Forward through the peer at `path`."""
    async with (
        GuestLink(UnixTransport(path, path), token="secret", deadlines=Deadlines(reply_s=reply_s)) as link,
        link.forward(80),
    ):
        pass


async def test_the_token_comes_first_and_bytes_behind_the_answer_are_kept(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.expect(FrameType.AUTH) == b"secret"
        assert await peer.expect(FrameType.FWD_REQ) == b'{"port":80}'
        answer = encode(FrameType.FWD_RESP, b'{"status":"ok"}') + b"220 hello"
        await peer.send_raw(answer[:7])
        await anyio.sleep(0.01)
        await peer.send_raw(answer[7:])
        peer.sock.close()

    path = tmp_path / "agent"
    link = GuestLink(UnixTransport(path, path), token="secret")
    async with listening(path, script), link, link.forward(80) as stream:
        assert await stream.receive(3) == b"220"
        assert await stream.receive() == b" hello"
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(bytes(MEBIBYTE))


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (b"", Unavailable, "connection-lost"),
        (encode(FrameType.FWD_RESP, b"{}")[:-1], Unavailable, "connection-lost"),
        (encode(FrameType.FWD_RESP, b"{}"), Unavailable, "protocol-violation"),
        (encode(FrameType.EXIT, bytes(4)), Unavailable, "protocol-violation"),
        (b"\xff" * 100_000, Unavailable, "protocol-violation"),
        (encode(FrameType.ERROR, b"auth required"), GuestFailure, "auth-required"),
        (encode(FrameType.FWD_RESP, b'{"status":"error","message":"no"}'), GuestFailure, "guest-failure"),
    ],
    ids=["nothing", "half", "no status", "another frame", "garbage", "token refused", "refused"],
)
async def test_what_is_no_acceptance_is_an_error(
    tmp_path: Path, answer: bytes, error: type[BhattiError], code: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect(FrameType.AUTH)
        await peer.expect(FrameType.FWD_REQ)
        try:
            await peer.send_raw(answer)
        except ConnectionError:
            assert len(answer) > MEBIBYTE >> 4, "only garbage is hung up on"

    async with listening(tmp_path / "agent", script):
        with pytest.raises(error) as caught:
            await forward_to(tmp_path / "agent")
        assert caught.value.code == code


async def test_a_silent_forward_port_is_given_up(tmp_path: Path) -> None:
    async with listening(tmp_path / "agent", Peer.gone):
        with pytest.raises(GuestTimeout, match="forwarding port 80"):
            await forward_to(tmp_path / "agent", reply_s=0.05)
