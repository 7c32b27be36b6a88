"""A TCP connection inside the guest, as a byte stream of the host."""

import asyncio
import socket

import anyio
import anyio.abc

from bhatti.guestlink.deadlines import Deadlines
from bhatti.guestlink.failures import guest_failure, lost, silent, violation
from bhatti.guestlink.pool import ConnectionPool
from lohar.wire.frames import HEADER_SIZE, FrameType, encode, try_parse
from lohar.wire.messages import ForwardRequest, ForwardResponse, MessageError

ANSWER_LIMIT = 64 << 10
"""FWD_RESP with its message is far below this; a peer that announces more does not speak the protocol."""


class ForwardStream(anyio.abc.ByteStream):
    """Bytes to and from a port of the guest. The end of either direction is passed on by itself (half-close).

    One task may receive while another sends. Receiving is safe to cancel; sending is not: part of it may be sent.
    """

    def __init__(self, sock: socket.socket, head: bytes) -> None:
        self._sock = sock
        self._head = head
        self._loop = asyncio.get_running_loop()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return 1 to `max_bytes` bytes. Raises `anyio.EndOfStream`, `anyio.BrokenResourceError` after a reset."""
        if self._head:
            data, self._head = self._head[:max_bytes], self._head[max_bytes:]
            return data
        while True:
            self._check_open()
            try:
                data = self._sock.recv(max_bytes)
            except (BlockingIOError, InterruptedError):
                await anyio.wait_readable(self._sock)
                continue
            except OSError as error:
                raise anyio.BrokenResourceError from error
            if not data:
                raise anyio.EndOfStream
            return data

    async def send(self, item: bytes) -> None:
        """Send all of `item`. Raises `anyio.BrokenResourceError` when the other side has gone."""
        view = memoryview(item)
        while view:
            self._check_open()
            try:
                view = view[self._sock.send(view) :]
            except (BlockingIOError, InterruptedError):
                await anyio.wait_writable(self._sock)
            except OSError as error:
                raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        """End our direction; what the guest still sends can be received."""
        self._check_open()
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise anyio.BrokenResourceError from error

    async def aclose(self) -> None:
        """Close both directions. Idempotent, never blocks."""
        if self._sock.fileno() >= 0:
            anyio.notify_closing(self._sock)
            self._sock.close()

    def _check_open(self) -> None:
        if self._sock.fileno() < 0:
            raise anyio.ClosedResourceError


async def open_forward(pool: ConnectionPool, port: int, deadlines: Deadlines) -> ForwardStream:
    """Connect to `port` on the guest's loopback.

    Raises `GuestFailure` (code `connection-refused` when nobody listens there), `Unavailable`, `GuestTimeout`. Safe to
    cancel.
    """
    sock, greeting = await pool.connect_forward()
    try:
        async with asyncio.timeout(deadlines.reply_s):
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, greeting + encode(FrameType.FWD_REQ, ForwardRequest(port=port).to_json()))
            return ForwardStream(sock, await _answer(sock, pool.peer))
    except BaseException as error:
        sock.close()
        if isinstance(error, TimeoutError):
            raise silent(pool.peer, f"no answer to forwarding port {port}", deadlines.reply_s) from error
        if isinstance(error, OSError):
            raise lost(pool.peer, error.strerror or str(error)) from error
        raise


async def _answer(sock: socket.socket, peer: str) -> bytes:
    """Read FWD_RESP; return the bytes of the stream that came with it."""
    loop = asyncio.get_running_loop()
    data = b""
    while (found := try_parse(data, max_length=ANSWER_LIMIT)) is None:
        if len(data) > ANSWER_LIMIT + HEADER_SIZE:
            raise violation(peer, "no FWD_RESP in what the forward port answered")
        more = await loop.sock_recv(sock, 4096)
        if not more:
            raise lost(peer, "the forward port closed it without an answer")
        data += more
    kind, start, end = found
    payload = data[start:end]
    if kind == FrameType.ERROR:
        raise guest_failure(payload.decode("utf-8", "replace"))
    try:
        if kind != FrameType.FWD_RESP:
            raise MessageError("", f"frame type 0x{kind:02x} instead of FWD_RESP")
        response = ForwardResponse.from_json(payload)
    except MessageError as error:
        raise violation(peer, str(error)) from error
    if response.status != "ok":
        raise guest_failure(response.message)
    return data[end:]
