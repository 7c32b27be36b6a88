import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from tests.unit.bhatti.guestlink.peers import Peer, listening, old_agent

from bhatti.errors import GuestFailure, GuestTimeout, Unavailable
from bhatti.guestlink.channel import Channel
from bhatti.guestlink.deadlines import Deadlines
from bhatti.guestlink.pool import MAX_IDLE, ConnectionPool
from bhatti.guestlink.transports import UnixTransport
from lohar.wire.frames import FrameType, encode
from lohar.wire.messages import Feature

pytestmark = pytest.mark.anyio

PATIENT = Deadlines(connect_s=10.0, reply_s=10.0)
"""For a busy machine: nothing that is to be answered may fail for want of time."""

IMPATIENT = Deadlines(connect_s=10.0, reply_s=0.05)

NewPool = Callable[..., ConnectionPool]


@pytest.fixture
async def new_pool(tmp_path: Path) -> AsyncIterator[NewPool]:
    """Make pools for the socket `tmp_path/agent`; they are closed when the test ends."""
    pools: list[ConnectionPool] = []

    def make(*, token: str | None = None, deadlines: Deadlines = PATIENT) -> ConnectionPool:
        pools.append(ConnectionPool(UnixTransport(tmp_path / "agent", tmp_path / "agent"), token, deadlines))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


async def new_agent(peer: Peer) -> None:
    """Answer HELLO, and each activity request after it."""
    await peer.hello()
    while True:
        try:
            await peer.expect(FrameType.ACTIVITY_REQ)
        except anyio.EndOfStream:
            return
        await peer.send(FrameType.ACTIVITY_RESP, b"{}")


async def new_agent_or_next(peer: Peer) -> None:
    """Be a connection of a new agent, the one that HELLO is asked on or a later one."""
    try:
        while True:
            kind, _ = await peer.frame()
            if kind == FrameType.HELLO_REQ:
                await peer.send(FrameType.HELLO_RESP, b'{"features":["keep-alive"]}')
    except anyio.EndOfStream:
        pass


async def test_hello_is_asked_once_and_its_connection_is_used_again(tmp_path: Path, new_pool: NewPool) -> None:
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await new_agent(peer)

    async with listening(tmp_path / "agent", script):
        pool = new_pool()
        hello = await pool.hello()
        assert hello.agent == "scripted/1"
        assert await pool.hello() is hello
        channel = await pool.acquire()
        assert channel.reused
        channel.send(FrameType.ACTIVITY_REQ)
        assert (await channel.receive(pool.deadline(60)))[0][0] == FrameType.ACTIVITY_RESP
        pool.release(channel)
        assert await pool.acquire() is channel
        assert connections == 1


async def test_many_who_begin_at_once_ask_hello_once(tmp_path: Path, new_pool: NewPool) -> None:
    hellos = 0

    async def script(peer: Peer) -> None:
        nonlocal hellos
        hellos += 1
        await new_agent(peer)

    async with listening(tmp_path / "agent", script):
        pool = new_pool()
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(pool.hello)
        assert hellos == 1


async def test_an_old_agent_is_given_a_connection_for_each_request(tmp_path: Path, new_pool: NewPool) -> None:
    async with listening(tmp_path / "agent", old_agent):
        pool = new_pool()
        hello = await pool.hello()
        assert (hello.revision, hello.features) == (1, ())
        assert not await pool.has(Feature.KEEP_ALIVE)
        first = await pool.acquire()
        pool.release(first)
        assert pool.idle == 0
        assert not first.usable
        second = await pool.acquire()
        assert second is not first
        assert not second.reused


async def test_no_more_connections_are_kept_than_useful(tmp_path: Path, new_pool: NewPool) -> None:
    async with listening(tmp_path / "agent", new_agent_or_next):
        pool = new_pool()
        channels = [await pool.acquire() for _ in range(MAX_IDLE + 3)]
        assert len(set(channels)) == MAX_IDLE + 3
        for channel in channels:
            pool.release(channel)
        assert pool.idle == MAX_IDLE
        assert [channel.usable for channel in channels] == [True] * MAX_IDLE + [False] * 3


async def test_a_fresh_connection_is_made_when_asked_for(tmp_path: Path, new_pool: NewPool) -> None:
    async with listening(tmp_path / "agent", new_agent_or_next):
        pool = new_pool()
        await pool.hello()
        assert pool.idle == 1
        assert not (await pool.acquire(fresh=True)).reused
        assert pool.idle == 1


async def test_connections_that_died_while_idle_are_not_handed_out(tmp_path: Path, new_pool: NewPool) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()

    async with listening(tmp_path / "agent", script):
        pool = new_pool()
        await pool.hello()
        channel = await _died(pool)
        assert await pool.acquire() is not channel


async def _died(pool: ConnectionPool) -> Channel:
    """Wait until the pool's one idle connection has seen its end."""
    channel = pool._idle[0]
    while channel.usable:
        await anyio.lowlevel.checkpoint()
    return channel


async def test_a_connection_with_something_left_in_it_is_not_used_again(tmp_path: Path, new_pool: NewPool) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.expect(FrameType.ACTIVITY_REQ)
        await peer.send_raw(encode(FrameType.ACTIVITY_RESP, b"{}") * 2)
        await peer.gone()

    async with listening(tmp_path / "agent", script):
        pool = new_pool()
        channel = await pool.acquire()
        channel.send(FrameType.ACTIVITY_REQ)
        while not channel.interrupted:
            await anyio.lowlevel.checkpoint()
        pool.release(channel)
        assert pool.idle == 0


async def test_a_dropped_connection_wakes_its_user_and_does_not_come_back(tmp_path: Path, new_pool: NewPool) -> None:
    async with listening(tmp_path / "agent", new_agent_or_next):
        pool = new_pool()
        used, idle = await pool.acquire(), await pool.acquire()
        pool.release(idle)
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(Unavailable, match="closed here"):
                    await used.receive(None)

            tasks.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            pool.drop()
        pool.release(used)
        assert pool.idle == 0
        assert not idle.usable
        assert (await pool.acquire()).usable, "what was learnt of the agent still holds"


async def test_what_was_released_is_not_discarded(tmp_path: Path, new_pool: NewPool) -> None:
    async with listening(tmp_path / "agent", new_agent_or_next):
        pool = new_pool()
        channel = await pool.acquire()
        pool.release(channel)
        pool.discard(channel)
        assert pool.idle == 1
        assert channel.usable
        again = await pool.acquire()
        pool.discard(again)
        assert not again.usable


async def test_every_connection_begins_with_the_token(tmp_path: Path, new_pool: NewPool) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.expect(FrameType.AUTH) == b"secret"
        await new_agent_or_next(peer)

    async with listening(tmp_path / "agent", script):
        pool = new_pool(token="secret")
        await pool.hello()
        await pool.acquire()
        await pool.acquire()
        sock, greeting = await pool.connect_forward()
        with sock:
            assert greeting == encode(FrameType.AUTH, b"secret")


async def test_a_refused_token_is_the_agents_failure(tmp_path: Path, new_pool: NewPool) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(FrameType.ERROR, b"auth required")

    async with listening(tmp_path / "agent", script):
        with pytest.raises(GuestFailure, match="agent error: auth required") as caught:
            await new_pool(token="wrong").hello()
        assert caught.value.code == "auth-required"
        with pytest.raises(GuestFailure):
            await new_pool(token="wrong").wait_ready(60)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [(FrameType.HELLO_RESP, b"[]"), (FrameType.HELLO_RESP, b'{"revision":"two"}'), (FrameType.EXIT, b"\0\0\0\0")],
    ids=["not an object", "a wrong field", "another frame"],
)
async def test_a_strange_answer_to_hello_is_a_violation(
    tmp_path: Path, new_pool: NewPool, kind: int, payload: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect(FrameType.HELLO_REQ)
        await peer.send(kind, payload)
        await peer.gone()

    async with listening(tmp_path / "agent", script):
        with pytest.raises(Unavailable, match="HELLO") as caught:
            await new_pool().hello()
        assert caught.value.code == "protocol-violation"


async def test_a_peer_that_never_answers_is_given_up(tmp_path: Path, new_pool: NewPool) -> None:
    async with listening(tmp_path / "agent", Peer.gone):
        with pytest.raises(GuestTimeout):
            await new_pool(deadlines=IMPATIENT).hello()


class TestWaitReady:
    async def test_it_returns_when_the_agent_answers(self, tmp_path: Path, new_pool: NewPool) -> None:
        pool = new_pool()
        async with anyio.create_task_group() as tasks:
            seen = []

            async def wait() -> None:
                seen.append(await pool.wait_ready(60))

            tasks.start_soon(wait)
            await anyio.sleep(0.03)  # a few attempts that find no socket
            assert not seen
            async with listening(tmp_path / "agent", new_agent):
                while not seen:
                    await anyio.lowlevel.checkpoint()
        assert seen[0].agent == "scripted/1"

    async def test_a_silent_first_attempt_is_followed_by_another(self, tmp_path: Path, new_pool: NewPool) -> None:
        attempts = 0

        async def script(peer: Peer) -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                await peer.gone()
            else:
                await new_agent(peer)

        async with listening(tmp_path / "agent", script):
            assert (await new_pool().wait_ready(60)).agent == "scripted/1"
        assert attempts == 2

    async def test_an_old_agent_is_ready_too(self, tmp_path: Path, new_pool: NewPool) -> None:
        async with listening(tmp_path / "agent", old_agent):
            assert (await new_pool().wait_ready(60)).revision == 1

    async def test_nobody_there_is_a_timeout_that_says_why(self, new_pool: NewPool) -> None:
        with pytest.raises(GuestTimeout, match=r"silent for 0\.1 s: not ready \(cannot reach .*No such file"):
            await new_pool().wait_ready(0.1)


async def test_a_closed_pool_opens_nothing(tmp_path: Path, new_pool: NewPool) -> None:
    async with listening(tmp_path / "agent", new_agent):
        pool = new_pool()
        await pool.hello()
        pool.close()
        with pytest.raises(Unavailable, match="the link was closed"):
            await pool.acquire()


@pytest.mark.parametrize("opening", ["hello", "acquire", "connect_forward"])
async def test_what_is_opened_while_the_pool_is_closed_does_not_stay_open(
    tmp_path: Path, new_pool: NewPool, opening: str
) -> None:
    connected, proceed = anyio.Event(), anyio.Event()

    class Held(UnixTransport):
        """Has connected, and does not say so yet."""

        async def connect(self, port: int) -> socket.socket:
            sock = await super().connect(port)
            connected.set()
            await proceed.wait()
            return sock

    pool = ConnectionPool(Held(tmp_path / "agent", tmp_path / "agent"), None, PATIENT)
    gone = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.gone()
        gone.set()

    async def open_one() -> None:
        with pytest.raises(Unavailable, match="the link was closed"):
            await getattr(pool, opening)()

    async with listening(tmp_path / "agent", script), anyio.create_task_group() as tasks:
        tasks.start_soon(open_one)
        await connected.wait()
        pool.close()
        proceed.set()
        with anyio.fail_after(60):
            await gone.wait()


async def test_who_is_asked_who_it_is_while_connections_are_dropped_is_asked_no_further(
    tmp_path: Path, new_pool: NewPool
) -> None:
    asked = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.expect(FrameType.HELLO_REQ)
        asked.set()
        await peer.gone()

    pool = new_pool()

    async def ask() -> None:
        with pytest.raises(Unavailable, match="closed here"):
            await pool.hello()

    async with listening(tmp_path / "agent", script), anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await asked.wait()
        pool.drop()


async def test_a_connection_that_does_not_come_about_is_given_up(tmp_path: Path, new_pool: NewPool) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(tmp_path / "agent"))
        listener.listen(0)
        first.connect(str(tmp_path / "agent"))  # the one place in the queue
        pool = new_pool(deadlines=Deadlines(connect_s=0.02))
        for connect in (pool.hello, pool.connect_forward):
            with pytest.raises(GuestTimeout, match="no connection"):
                await connect()
