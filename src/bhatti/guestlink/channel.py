"""One connection to the agent: frames over a non-blocking socket, on the running event loop.

It sits on the loop's readiness callbacks (`add_reader`, `add_writer`) and not on asyncio's transports: those cost twice
the time per round trip and a copy of all that is sent (figures in `docs/performance.md`). Flow control is the socket's:
who is not asked for frames stops reading, who waits in `drain` stops sending.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque

from bhatti.errors import BhattiError
from bhatti.guestlink.failures import lost, silent, violation
from lohar.wire.frames import FrameError, FrameParser, FrameType, encode, header

READ_SIZE = 256 << 10
"""One read's worth: what a unix socket with `transports.SOCKET_BUFFER` gives at once, and it stays in the cache."""

HIGH_WATER = 1 << 20
"""Received and not yet asked for: above it the channel stops reading. One frame of the largest size fits."""

LOW_WATER = 256 << 10
"""Sent and not yet taken by the kernel: `drain` waits until it is below."""

READS_AT_ONCE = 4
"""Full reads before other connections of the loop get their turn."""

Frame = tuple[int, bytes]


class ReceiveBuffer:
    """The memory that the channels of one link read into. They take turns: each is done with it before the next
    reads."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_SIZE))


class Channel:
    """Sends and receives frames. One task at a time may wait to receive.

    `prefix` goes out in one write with the first thing sent (AUTH). `answered` says whether anything has come since it
    was last handed out, `reused` whether it has served before. A channel that failed stays failed: every call
    says why. Closing is synchronous, idempotent and never fails, so that it can be done in any state, cancelled or not.
    """

    def __init__(self, sock: socket.socket, peer: str, buffer: ReceiveBuffer, prefix: bytes = b"") -> None:
        self.peer = peer
        self.reused = False
        self.answered = False
        self._sock = sock
        self._fd = sock.fileno()
        self._buffer = buffer.view
        self._loop = asyncio.get_running_loop()
        self._parser = FrameParser(pieces=True)
        self._frames: list[Frame] = []
        self._queued = 0
        self._out: deque[memoryview] = deque()
        self._out_size = 0
        self._prefix = prefix
        self._waiters: set[asyncio.Future[bool]] = set()
        self._error: BhattiError | None = None
        self._send_error: OSError | None = None
        self._eof_wanted = False
        self._reading = True
        self._loop.add_reader(self._fd, self._on_readable)

    @property
    def usable(self) -> bool:
        """Whether another request can be made on it: it lives, and nothing of the last one is left in it."""
        return (
            self._error is None
            and self._send_error is None
            and not (self._frames or self._out or self._parser.inside or self._eof_wanted)
        )

    @property
    def writable(self) -> bool:
        """Whether more may be sent without piling up memory."""
        return self._out_size < LOW_WATER

    @property
    def interrupted(self) -> bool:
        """Whether the peer has something to say, or is gone: time to stop sending and receive."""
        return bool(self._frames) or self._error is not None or self._send_error is not None

    def send(self, kind: int, payload: bytes | memoryview = b"") -> None:
        """Send one frame; what the socket does not take at once is kept (see `drain`). Failures show on receiving."""
        if len(payload) < READ_SIZE >> 4:
            self._write(encode(kind, payload))
        else:
            self._write(header(kind, len(payload)), payload)

    def send_all(self, *frames: bytes) -> None:
        """Send encoded frames in one write."""
        self._write(b"".join(frames))

    def send_eof(self) -> None:
        """Close our direction once everything is out; the peer sees the end of the stream."""
        self._eof_wanted = True
        if not self._out:
            self._shutdown()

    async def drain(self, deadline: float | None) -> None:
        """Wait until there is room to send. Raises what `receive` raises. Safe to cancel."""
        while not self.writable:
            await self._wait(deadline, "it takes nothing more")

    async def receive(self, deadline: float | None, *, or_writable: bool = False) -> list[Frame]:
        """Return all frames that are there, waiting for some if there are none.

        `deadline` is a time of the loop's clock. With `or_writable`, also returns, with nothing, when more can be sent.
        Raises `Unavailable` when the connection has ended and all was handed out, `GuestTimeout` at the deadline. Safe
        to cancel: no frame is lost.
        """
        while not self._frames:
            if or_writable and self.writable:
                return []
            await self._wait(deadline, "no answer")
        frames, self._frames = self._frames, []
        self._queued = 0
        if not self._reading and self._error is None:
            self._reading = True
            self._loop.add_reader(self._fd, self._on_readable)
        return frames

    def close(self) -> None:
        """Close the connection now. What was not sent is dropped."""
        self._fail(lost(self.peer, "closed here"))
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._sock.close()
            self._fd = -1

    def kill_and_close(self) -> None:
        """Tell the agent to kill the command that runs on this connection, and close it.

        If the frame cannot go out at once, the connection is reset: that kills the command too.
        """
        if self._error is None and not self._out:
            self.send(FrameType.KILL)
        if self._out:
            with contextlib.suppress(OSError):
                # Zero linger time: close sends RST (tcp(7)), and an agent kills what a reset connection started.
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    async def _wait(self, deadline: float | None, what: str) -> None:
        """Wait for anything to happen on the connection, or the deadline."""
        if self._error is not None:
            raise self._error
        started = time.monotonic()
        waiter = self._loop.create_future()
        self._waiters.add(waiter)  # two at most: one task receives while another sends
        timer = None if deadline is None else self._loop.call_at(deadline, _settle, waiter, False)
        try:
            if not await waiter:
                raise silent(self.peer, what, round(time.monotonic() - started, 1))
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        for waiter in self._waiters:
            _settle(waiter, True)

    def _fail(self, error: BhattiError) -> None:
        if self._error is None:
            self._error = error
            self._out.clear()
            self._out_size = 0
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._wake()

    def _on_readable(self) -> None:
        for _ in range(READS_AT_ONCE):
            try:
                size = self._sock.recv_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._fail(lost(self.peer, error.strerror or str(error)))
                return
            if not self._received(size) or size < READ_SIZE:
                return

    def _received(self, size: int) -> bool:
        """Take `size` bytes from the buffer; return whether to go on reading."""
        if not size:
            self._fail(lost(self.peer, "the agent closed it"))
            return False
        self.answered = True
        self._parser.feed(self._buffer[:size])
        try:
            frames = self._parser.frames()
        except FrameError as error:
            self._fail(violation(self.peer, str(error)))
            return False
        self._queued += size
        if self._queued >= HIGH_WATER:
            self._reading = False
            self._loop.remove_reader(self._fd)
        if frames:
            self._frames += frames
            self._wake()
        return self._reading

    def _write(self, *parts: bytes | memoryview) -> None:
        if self._error is not None or self._send_error is not None:
            return
        if self._prefix:
            parts, self._prefix = (self._prefix + parts[0], *parts[1:]), b""
        if self._out:
            self._keep(parts, 0)
            return
        try:
            sent = self._sock.send(parts[0]) if len(parts) == 1 else self._sock.sendmsg(parts)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._send_failed(error)
            return
        if sent < sum(map(len, parts)):
            self._keep(parts, sent)
            self._loop.add_writer(self._fd, self._on_writable)

    def _keep(self, parts: tuple[bytes | memoryview, ...], sent: int) -> None:
        for part in parts:
            if sent < len(part):
                # A view of bytes, not of what the caller may change: its buffer is ours until it is sent.
                self._out.append(memoryview(part)[sent:])
                self._out_size += len(part) - sent
            sent = max(0, sent - len(part))

    def _on_writable(self) -> None:
        try:
            sent = self._sock.send(self._out[0])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._send_failed(error)
            return
        self._out_size -= sent
        if sent < len(self._out[0]):
            self._out[0] = self._out[0][sent:]
        else:
            self._out.popleft()
        if not self._out:
            self._loop.remove_writer(self._fd)
            if self._eof_wanted:
                self._shutdown()
        if self.writable:
            self._wake()

    def _send_failed(self, error: OSError) -> None:
        """Stop sending, but go on reading: the agent may have said why before it closed."""
        self._send_error = error
        self._out.clear()
        self._out_size = 0
        self._loop.remove_writer(self._fd)
        self._wake()

    def _shutdown(self) -> None:
        # A peer that is gone has its end of stream already; reading will tell.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)


def _settle(waiter: "asyncio.Future[bool]", happened: bool) -> None:
    if not waiter.done():
        waiter.set_result(happened)
