"""Requests over the pool: one question with one answer, and waiting that ends when the guest is dead."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bhatti.errors import GuestFailure, GuestTimeout, Unavailable
from bhatti.guestlink.channel import Channel, Frame
from bhatti.guestlink.deadlines import Deadlines
from bhatti.guestlink.failures import guest_failure, violation
from bhatti.guestlink.pool import ConnectionPool
from lohar.wire.frames import FrameType
from lohar.wire.messages import MessageError
from lohar.wire.records import Record

T = TypeVar("T")
R = TypeVar("R", bound=Record)


class Exchange:
    """What all kinds of requests share: the pool, the deadlines, retries and proof of life."""

    def __init__(self, pool: ConnectionPool, deadlines: Deadlines) -> None:
        self.pool = pool
        self.deadlines = deadlines

    async def begin(
        self, kind: int, payload: bytes, seconds: float, *, repeatable: bool
    ) -> tuple[Channel, list[Frame]]:
        """Send a request that is one frame, wait up to `seconds` for the first frames of its answer.

        A connection from the pool may have died unnoticed: a `repeatable` request is then sent once more on a new one.
        Raises `Unavailable`, `GuestTimeout`. Safe to cancel. The channel must be released or discarded.
        """
        pool = self.pool
        channel = await pool.acquire()
        while True:
            try:
                channel.send(kind, payload)
                return channel, await channel.receive(pool.deadline(seconds))
            except BaseException as error:
                pool.discard(channel)
                stale = isinstance(error, Unavailable) and not isinstance(error, GuestTimeout) and channel.reused
                if not (stale and repeatable and not channel.answered):
                    raise
            channel = await pool.acquire(fresh=True)

    async def ask(
        self, kind: int, payload: bytes, answer: int, *, seconds: float | None = None, repeatable: bool = True
    ) -> bytes:
        """Send a request, return the payload of the one frame that answers it, which must be of type `answer`.

        Raises `GuestFailure` for the agent's ERROR, `Unavailable`, `GuestTimeout`. Safe to cancel; the agent may have
        done what was asked.
        """
        channel, frames = await self.begin(kind, payload, seconds or self.deadlines.reply_s, repeatable=repeatable)
        got, content = frames[0]
        if got == answer and len(frames) == 1:
            self.pool.release(channel)
            return content
        raise self.refuse(channel, got, content)

    def refuse(self, channel: Channel, kind: int, payload: bytes) -> GuestFailure | Unavailable:
        """Return the error for a frame that is not the wanted answer, and deal with its channel."""
        if kind == FrameType.ERROR:
            self.pool.release(channel)
            return guest_failure(payload.decode("utf-8", "replace"))
        self.pool.discard(channel)
        return violation(channel.peer, f"frame type 0x{kind:02x} where it means nothing")

    def decode(self, kind: type[R], payload: bytes) -> R:
        """Decode a message of the agent. Raises `Unavailable` (code `protocol-violation`)."""
        try:
            return kind.from_json(payload)
        except MessageError as error:
            raise violation(self.pool.peer, f"{kind.__name__}: {error}") from error

    async def patiently(self, wait: Callable[[float], Awaitable[T]], until: float | None = None) -> T:
        """Await `wait(deadline)` for as long as the guest is alive, or up to the loop's time `until`.

        Raises `GuestTimeout` at `until`, or when the guest does not answer a probe either. Safe to cancel if `wait` is.
        """
        loop = asyncio.get_running_loop()
        while True:
            probe_at = loop.time() + self.deadlines.probe_after_s
            try:
                return await wait(probe_at if until is None else min(probe_at, until))
            except GuestTimeout:
                if until is not None and loop.time() >= until:
                    raise
            await self.probe()

    async def probe(self) -> None:
        """Return if the agent answers anything at all. Raises `Unavailable`, `GuestTimeout`. Safe to cancel."""
        for last in (False, True):
            try:
                await self.ask(
                    FrameType.ACTIVITY_REQ, b"", FrameType.ACTIVITY_RESP, seconds=self.deadlines.probe_reply_s
                )
            except GuestFailure:
                return  # it refuses, so it lives
            except Unavailable:
                if last:
                    raise
            else:
                return
