from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest
from tests.unit.bhatti.guestlink.peers import Peer, listening

from bhatti.errors import GuestFailure, GuestTimeout, Unavailable
from bhatti.guestlink.deadlines import Deadlines
from bhatti.guestlink.exchange import Exchange
from bhatti.guestlink.pool import ConnectionPool
from bhatti.guestlink.transports import UnixTransport
from lohar.wire.frames import FrameType, encode
from lohar.wire.messages import ActivityInfo

pytestmark = pytest.mark.anyio

NewExchange = Callable[..., Exchange]


@pytest.fixture
async def new_exchange(tmp_path: Path) -> AsyncIterator[NewExchange]:
    exchanges: list[Exchange] = []

    def make(**deadlines: float) -> Exchange:
        given = Deadlines(**deadlines)
        exchanges.append(Exchange(ConnectionPool(UnixTransport(tmp_path / "agent"), None, given), given))
        return exchanges[-1]

    yield make
    for exchange in exchanges:
        exchange.pool.close()


async def ask(exchange: Exchange, *, repeatable: bool = True) -> bytes:
    return await exchange.ask(FrameType.ACTIVITY_REQ, b"", FrameType.ACTIVITY_RESP, repeatable=repeatable)


async def dies_after_hello(peer: Peer) -> None:
    """Take a request on the connection of HELLO and close it unanswered; serve on every other one."""
    kind, _ = await peer.frame()
    if kind == FrameType.HELLO_REQ:
        await peer.send(FrameType.HELLO_RESP, b'{"features":["keep-alive"]}')
        await peer.frame()
        return
    await peer.send(FrameType.ACTIVITY_RESP, b"{}")
    await peer.gone()


async def test_a_question_is_answered_and_its_connection_kept(tmp_path: Path, new_exchange: NewExchange) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        for number in range(3):
            await peer.expect(FrameType.ACTIVITY_REQ)
            await peer.send(FrameType.ACTIVITY_RESP, b'{"active_sessions":%d}' % number)
        await peer.gone()

    async with listening(tmp_path / "agent", script):
        exchange = new_exchange()
        for number in range(3):
            answer = exchange.decode(ActivityInfo, await ask(exchange))
            assert answer.active_sessions == number
        assert exchange.pool.idle == 1


async def test_a_stale_connection_is_replaced_for_what_can_be_repeated(
    tmp_path: Path, new_exchange: NewExchange
) -> None:
    async with listening(tmp_path / "agent", dies_after_hello):
        assert await ask(new_exchange()) == b"{}"


async def test_a_stale_connection_is_an_error_for_what_cannot_be_repeated(
    tmp_path: Path, new_exchange: NewExchange
) -> None:
    async with listening(tmp_path / "agent", dies_after_hello):
        with pytest.raises(Unavailable, match="lost the connection"):
            await ask(new_exchange(), repeatable=False)


async def test_nothing_is_repeated_after_part_of_an_answer(tmp_path: Path, new_exchange: NewExchange) -> None:
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        await peer.hello()
        requests += 1
        await peer.expect(FrameType.ACTIVITY_REQ)
        await peer.send_raw(encode(FrameType.ACTIVITY_RESP, b"{}")[:-1])

    async with listening(tmp_path / "agent", script):
        exchange = new_exchange()
        with pytest.raises(Unavailable):
            await ask(exchange)
    assert requests == 1


async def test_a_silent_agent_is_not_asked_twice(tmp_path: Path, new_exchange: NewExchange) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.gone()

    async with listening(tmp_path / "agent", script):
        exchange = new_exchange(reply_s=0.5)  # HELLO must be answered in it
        with pytest.raises(GuestTimeout, match=r"silent for 0\.\d s: no answer"):
            await ask(exchange)
        assert exchange.pool.idle == 0, "a late answer must not meet the next question"


async def test_a_refusal_is_the_agents_failure_and_the_connection_lives_on(
    tmp_path: Path, new_exchange: NewExchange
) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.expect(FrameType.ACTIVITY_REQ)
        await peer.send(FrameType.ERROR, "n\u00f6 \u2026".encode() + b"\xff")
        await peer.gone()

    async with listening(tmp_path / "agent", script):
        exchange = new_exchange()
        with pytest.raises(GuestFailure, match="agent error: n\u00f6 \u2026\ufffd"):
            await ask(exchange)
        assert exchange.pool.idle == 1


@pytest.mark.parametrize("extra", [b"", encode(FrameType.EXIT, bytes(4))], ids=["another type", "two frames"])
async def test_an_answer_to_something_else_is_a_violation(
    tmp_path: Path, new_exchange: NewExchange, extra: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.expect(FrameType.ACTIVITY_REQ)
        kind = FrameType.ACTIVITY_RESP if extra else FrameType.STDOUT
        await peer.send_raw(encode(kind, b"{}") + extra)
        await peer.gone()

    async with listening(tmp_path / "agent", script):
        exchange = new_exchange()
        with pytest.raises(Unavailable, match="means nothing") as caught:
            await ask(exchange)
        assert caught.value.code == "protocol-violation"
        assert exchange.pool.idle == 0


async def test_a_message_that_cannot_be_decoded_is_a_violation(new_exchange: NewExchange) -> None:
    with pytest.raises(Unavailable, match="ActivityInfo: active_sessions: expected a whole number"):
        new_exchange().decode(ActivityInfo, b'{"active_sessions":"two"}')


class TestPatience:
    """Waiting for what may take any time, as long as the guest lives."""

    async def test_a_living_guest_may_be_silent_as_long_as_it_likes(
        self, tmp_path: Path, new_exchange: NewExchange
    ) -> None:
        probes = 0

        async def script(peer: Peer) -> None:
            nonlocal probes
            try:
                await peer.hello()
                while True:
                    await peer.expect(FrameType.ACTIVITY_REQ)
                    probes += 1
                    await peer.send(FrameType.ACTIVITY_RESP, b"{}")
            except anyio.EndOfStream:
                pass

        async with listening(tmp_path / "agent", script):
            exchange = new_exchange(probe_after_s=0.01)

            async def wait(deadline: float) -> str:
                if probes < 3:
                    await anyio.sleep_until(deadline)
                    raise GuestTimeout("nothing yet")
                return "here"

            assert await exchange.patiently(wait) == "here"

    async def test_a_dead_guest_ends_the_wait(self, tmp_path: Path, new_exchange: NewExchange) -> None:
        async def script(peer: Peer) -> None:
            kind, _ = await peer.frame()
            if kind == FrameType.HELLO_REQ:
                await peer.send(FrameType.HELLO_RESP, b'{"features":["keep-alive"]}')
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            exchange = new_exchange(probe_after_s=0.01, probe_reply_s=0.02)
            channel = await exchange.pool.acquire()
            with pytest.raises(GuestTimeout, match="no answer"):
                await exchange.patiently(channel.receive)

    async def test_a_given_end_is_kept_however_alive_the_guest_is(
        self, tmp_path: Path, new_exchange: NewExchange
    ) -> None:
        async with listening(tmp_path / "agent", dies_after_hello):
            exchange = new_exchange()
            channel = await exchange.pool.acquire()
            with pytest.raises(GuestTimeout):
                await exchange.patiently(channel.receive, until=exchange.pool.deadline(0.01))

    async def test_a_refusal_is_a_sign_of_life(self, tmp_path: Path, new_exchange: NewExchange) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.ACTIVITY_REQ)
            await peer.send(FrameType.ERROR, b"connection limit exceeded")
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            await new_exchange().probe()
