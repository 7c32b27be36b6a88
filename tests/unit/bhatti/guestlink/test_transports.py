import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from bhatti.errors import Unavailable
from bhatti.guestlink.transports import TcpTransport, Transport, UnixTransport, VsockTransport
from lohar.wire.frames import CONTROL_PORT, FORWARD_PORT

pytestmark = pytest.mark.anyio


@pytest.fixture
def tcp_listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def unix_listener(path: Path, backlog: int = 5) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(backlog)
    return listener


async def greet(transport: Transport, port: int, listener: socket.socket) -> None:
    """Check that what `connect` returns leads to the listener."""
    with await transport.connect(port) as sock:
        assert not sock.getblocking()
        accepted, _ = listener.accept()
        with accepted:
            sock.send(b"hello")
            assert accepted.recv(5) == b"hello"


async def test_each_port_has_its_unix_socket(tmp_path: Path) -> None:
    transport = UnixTransport(tmp_path / "control", tmp_path / "forward")
    for port, name in ((CONTROL_PORT, "control"), (FORWARD_PORT, "forward")):
        with unix_listener(tmp_path / name) as listener:
            await greet(transport, port, listener)
    assert str(transport) == f"unix:{tmp_path}/control"


async def test_a_missing_unix_socket_is_an_unreachable_guest(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file") as caught:
        await UnixTransport(tmp_path / "none").connect(CONTROL_PORT)
    assert caught.value.code == "guest-unreachable"


async def test_a_port_without_socket_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no socket for port 1025"):
        await UnixTransport(tmp_path / "control").connect(FORWARD_PORT)


async def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    transport = UnixTransport(tmp_path / "control")
    with unix_listener(tmp_path / "control", backlog=0) as listener:
        first = await transport.connect(CONTROL_PORT)
        waiting = asyncio.get_running_loop().create_future()

        async def connect_second() -> None:
            waiting.set_result(await transport.connect(CONTROL_PORT))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connect_second)
            with anyio.move_on_after(0.05):
                await asyncio.shield(waiting)
            assert not waiting.done(), "the queue holds one connection, and it is taken"
            listener.accept()[0].close()
        with first, waiting.result() as second:
            assert second.getpeername() == str(tmp_path / "control")


async def test_cancelling_the_wait_leaves_no_socket(tmp_path: Path) -> None:
    transport = UnixTransport(tmp_path / "control")
    with unix_listener(tmp_path / "control", backlog=0), await transport.connect(CONTROL_PORT):
        with anyio.move_on_after(0.02) as scope:
            await transport.connect(CONTROL_PORT)  # a leak would be a ResourceWarning, and so an error
        assert scope.cancelled_caught


async def test_tcp_reaches_the_port_or_what_it_is_mapped_to(tcp_listener: socket.socket) -> None:
    port = tcp_listener.getsockname()[1]
    await greet(TcpTransport("127.0.0.1"), port, tcp_listener)
    await greet(TcpTransport("127.0.0.1", ports={CONTROL_PORT: port}), CONTROL_PORT, tcp_listener)


async def test_tcp_sends_requests_at_once(tcp_listener: socket.socket) -> None:
    with await TcpTransport("127.0.0.1").connect(tcp_listener.getsockname()[1]) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_tcp_comes_from_the_address_that_is_named(tcp_listener: socket.socket) -> None:
    port = tcp_listener.getsockname()[1]
    with await TcpTransport("127.0.0.1", source="127.0.0.9").connect(port) as sock:
        assert sock.getsockname()[0] == "127.0.0.9"
    with pytest.raises(Unavailable, match=r"tcp:127.0.0.1: .*assign requested address"):
        await TcpTransport("127.0.0.1", source="192.0.2.1").connect(port)


async def test_tcp_to_a_closed_port_is_an_unreachable_guest(tcp_listener: socket.socket) -> None:
    port = tcp_listener.getsockname()[1]
    tcp_listener.close()
    with pytest.raises(Unavailable, match=r"tcp:127.0.0.1: .*refused"):
        await TcpTransport("127.0.0.1").connect(port)


@pytest.mark.skipif(sys.platform != "linux", reason="SO_BINDTODEVICE is Linux's")
async def test_tcp_goes_through_the_device_it_is_bound_to(tcp_listener: socket.socket) -> None:
    port = tcp_listener.getsockname()[1]
    await greet(TcpTransport("127.0.0.1", device="lo"), port, tcp_listener)
    with pytest.raises(Unavailable, match=r"tcp:127.0.0.1%nowhere0: .*device"):
        await TcpTransport("127.0.0.1", device="nowhere0").connect(port)


@contextlib.asynccontextmanager
async def vsock_device(path: Path, answer: bytes) -> AsyncIterator[list[bytes]]:
    """Be Firecracker's end of one handshake on `path`; give the list that the line which came is put into."""
    lines: list[bytes] = []
    loop = asyncio.get_running_loop()
    with unix_listener(path) as listener:
        listener.setblocking(False)

        async def serve() -> None:
            accepted, _ = await loop.sock_accept(listener)
            with accepted:
                lines.append(await loop.sock_recv(accepted, 100))
                await loop.sock_sendall(accepted, answer)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            yield lines


async def test_vsock_asks_the_device_for_the_port_and_leaves_the_stream_untouched(tmp_path: Path) -> None:
    async with vsock_device(tmp_path / "v", b"OK 1073741824\nfirst bytes") as lines:
        with await VsockTransport(tmp_path / "v").connect(1024) as sock:
            assert sock.recv(100) == b"first bytes"
    assert lines == [b"CONNECT 1024\n"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [(b"NO\n", "vsock port 1024: NO"), (b"x" * 100, "not a vsock answer"), (b"", "nobody listens on vsock port 1024")],
    ids=["refused", "garbage", "closed"],
)
async def test_a_vsock_device_that_refuses_is_an_unreachable_guest(tmp_path: Path, answer: bytes, problem: str) -> None:
    async with vsock_device(tmp_path / "v", answer):
        with pytest.raises(Unavailable, match=problem):
            await VsockTransport(tmp_path / "v").connect(1024)
