import asyncio
import socket
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from bhatti.errors import GuestTimeout, Unavailable
from bhatti.guestlink.channel import HIGH_WATER, LOW_WATER, READ_SIZE, Channel, ReceiveBuffer
from lohar.wire.frames import FrameParser, FrameType, encode, encode_exit

pytestmark = pytest.mark.anyio

EXIT = (FrameType.EXIT, encode_exit(0))
MEBIBYTE = 1 << 20


class Far:
    """The other end of a channel, in the test's hands."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._parser = FrameParser()

    async def send(self, kind: int, payload: bytes = b"") -> None:
        await self.send_raw(encode(kind, payload))

    async def send_raw(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.sock, READ_SIZE)

    async def frames(self, count: int) -> list[tuple[int, bytes]]:
        seen: list[tuple[int, bytes]] = []
        while len(seen) < count:
            data = await self.read()
            assert data, "the channel ended early"
            self._parser.feed(data)
            seen += self._parser.frames()
        return seen


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Channel, Far]]:
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setblocking(False)
    channel = Channel(near, "test", ReceiveBuffer())
    yield channel, Far(far)
    channel.close()
    far.close()


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def receive(channel: Channel, count: int) -> list[tuple[int, bytes]]:
    frames: list[tuple[int, bytes]] = []
    while len(frames) < count:
        frames += await channel.receive(soon())
    return frames


async def test_frames_go_both_ways(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    channel.send(FrameType.EXEC_REQ, b"{}")
    assert await far.frames(1) == [(FrameType.EXEC_REQ, b"{}")]
    await far.send(FrameType.STDOUT, b"out")
    await far.send(*EXIT)
    assert await receive(channel, 2) == [(FrameType.STDOUT, b"out"), EXIT]


async def test_frames_that_came_before_anybody_asked_are_kept(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    await far.send(FrameType.STDOUT, b"early")
    await far.send(*EXIT)
    far.sock.close()
    while not channel.interrupted:
        await anyio.lowlevel.checkpoint()
    assert await receive(channel, 2) == [(FrameType.STDOUT, b"early"), EXIT]
    with pytest.raises(Unavailable, match="the agent closed it"):
        await channel.receive(soon())


async def test_several_frames_go_out_in_one_write(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    channel.send_all(encode(FrameType.EXEC_REQ, b"{}"), encode(FrameType.STDIN, b"in"))
    assert await far.read() == encode(FrameType.EXEC_REQ, b"{}") + encode(FrameType.STDIN, b"in")


async def test_the_prefix_goes_out_with_the_first_frame() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with far:
        channel = Channel(near, "test", ReceiveBuffer(), prefix=encode(FrameType.AUTH, b"secret"))
        channel.send(FrameType.EXEC_LIST_REQ)
        channel.send(FrameType.EXEC_LIST_REQ)
        assert far.recv(100) == encode(FrameType.AUTH, b"secret") + encode(FrameType.EXEC_LIST_REQ) * 2
        channel.close()


async def test_the_peers_end_is_a_lost_connection(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    far.sock.close()
    with pytest.raises(
        Unavailable, match="lost the connection to the guest agent at test: the agent closed it"
    ) as caught:
        await channel.receive(soon())
    assert caught.value.code == "connection-lost"
    assert not channel.usable


async def test_half_a_frame_and_then_the_end_is_a_lost_connection(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    await far.send_raw(encode(FrameType.SESSION_INFO, b"{}")[:-1])
    far.sock.close()
    with pytest.raises(Unavailable, match="the agent closed it"):
        await channel.receive(soon())


async def test_garbage_is_a_peer_that_does_not_speak_the_protocol(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    await far.send_raw(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(Unavailable, match="does not speak the agent's protocol") as caught:
        await channel.receive(soon())
    assert caught.value.code == "protocol-violation"


async def test_a_silent_peer_ends_the_wait_at_the_deadline(pair: tuple[Channel, Far]) -> None:
    channel, _ = pair
    with pytest.raises(GuestTimeout, match="silent for 0 s: no answer"):
        await channel.receive(soon(0.01))
    assert channel.usable, "whether to give it up is the caller's to say"


async def test_cancelling_a_wait_loses_no_frame(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    with anyio.move_on_after(0.01):
        await channel.receive(soon())
    await far.send(*EXIT)
    assert await channel.receive(soon()) == [EXIT]


async def test_who_does_not_ask_stops_the_sender(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    frame = encode(FrameType.STDOUT, bytes(READ_SIZE))
    sent = 0
    with anyio.move_on_after(0.2):
        while sent < 20:
            await far.send_raw(frame)
            sent += 1
    # What the channel holds is bounded by its high-water mark and one turn's reads; the rest is the kernel's.
    assert sent * READ_SIZE < HIGH_WATER + 8 * READ_SIZE
    received = 0
    while received < sent * READ_SIZE:
        received += sum(len(payload) for _, payload in await channel.receive(soon()))
    assert received >= sent * READ_SIZE, "after the pause all of it comes"


async def test_a_slow_peer_makes_drain_wait(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    data = memoryview(bytes(range(256)) * 2048)
    while channel.writable:
        channel.send(FrameType.STDIN, data)
    with pytest.raises(GuestTimeout, match="takes nothing more"):
        await channel.drain(soon(0.01))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.drain, soon())
        while not channel.writable:
            await far.read()


async def test_one_task_may_wait_to_receive_while_another_waits_to_send(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    seen = []

    async def take() -> None:
        seen.extend(await channel.receive(soon()))

    while channel.writable:
        channel.send(FrameType.STDIN, bytes(READ_SIZE))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        tasks.start_soon(channel.drain, soon())
        await anyio.lowlevel.checkpoint()
        await far.send(*EXIT)
        while not channel.writable:
            await far.read()
    assert seen == [EXIT]


async def test_large_payloads_arrive_unharmed_through_a_full_socket(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    pieces = [bytes([number]) * (MEBIBYTE - 1) for number in range(8)]
    for piece in pieces:
        channel.send(FrameType.STDIN, memoryview(piece))
    channel.send(FrameType.STDIN, b"last")
    assert await far.frames(9) == [*((FrameType.STDIN, piece) for piece in pieces), (FrameType.STDIN, b"last")]


async def test_receiving_may_end_because_there_is_room_to_send(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    assert await channel.receive(soon(), or_writable=True) == []
    await far.send(*EXIT)
    while not channel.interrupted:
        await anyio.lowlevel.checkpoint()
    assert await channel.receive(soon(), or_writable=True) == [EXIT]


async def test_the_end_of_our_direction_comes_after_what_was_sent(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    channel.send(FrameType.STDIN, memoryview(bytes(LOW_WATER * 3)))
    channel.send_eof()
    received = bytearray()
    while data := await far.read():
        received += data
    assert len(received) == LOW_WATER * 3 + 5
    await far.send(*EXIT)
    assert await channel.receive(soon()) == [EXIT], "the other direction stays open"
    assert not channel.usable, "nothing can be asked on it any more"


async def test_a_reason_given_before_the_connection_broke_is_still_read(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    await far.send(FrameType.ERROR, b"disk full")
    far.sock.close()
    while not channel.interrupted:
        channel.send(FrameType.STDIN, bytes(READ_SIZE))
        await anyio.lowlevel.checkpoint()
    channel.send(FrameType.STDIN, bytes(READ_SIZE))
    assert await channel.receive(soon()) == [(FrameType.ERROR, b"disk full")]


async def test_closing_wakes_who_waits_and_may_be_repeated(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(Unavailable, match="closed here"):
                await channel.receive(soon())

        tasks.start_soon(wait)
        await anyio.lowlevel.checkpoint()
        channel.close()
    channel.close()
    channel.send(FrameType.STDIN, b"dropped")
    assert await far.read() == b""


async def test_killing_sends_kill_and_then_the_end(pair: tuple[Channel, Far]) -> None:
    channel, far = pair
    channel.kill_and_close()
    assert await far.frames(1) == [(FrameType.KILL, b"")]
    assert await far.read() == b""


async def test_killing_resets_a_connection_that_takes_nothing_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        near.setblocking(False)
        far, _ = listener.accept()
    channel = Channel(near, "test", ReceiveBuffer())
    while channel.writable:
        channel.send(FrameType.STDIN, bytes(MEBIBYTE - 1))
    channel.kill_and_close()

    def read_to_the_end() -> None:
        while far.recv(MEBIBYTE):
            pass

    with far, pytest.raises(ConnectionResetError):  # a clean end would look like the end of stdin
        read_to_the_end()
