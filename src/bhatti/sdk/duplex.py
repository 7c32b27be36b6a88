"""A WebSocket over a socket that never blocks: all but the waiting, which the flavours of the SDK do in their own ways.

Whoever waits for one direction serves the other meanwhile, so that two sides that both have much to say never stand
still, each waiting for the other to listen.
"""

import contextlib
import select
import socket
from collections import deque
from collections.abc import Iterator

from bhatti.sdk.talks import Message
from bhatti.sdk.websocket import CLOSE, PING, PONG, FrameReader, frame

RECEIVE_BYTES = 256 << 10

HIGH_WATER_BYTES = 1 << 20
"""With this much waiting to be sent, no more input is taken from where it comes from."""


class Duplex:
    """Messages in both directions. `rest` is what came behind the answer that began the conversation."""

    def __init__(self, opened: socket.socket, rest: bytes) -> None:
        self._socket = opened
        self._socket.setblocking(False)
        self._reader = FrameReader(rest)
        self._came: deque[Message] = deque()
        self._end: str | None = None
        self._out = bytearray()
        self._supply: Iterator[Message] | None = None
        self._deliver()

    def supply(self, messages: Iterator[Message]) -> None:
        """Send `messages`, taken as the other side takes them, while others are waited for."""
        self._supply = messages

    def close(self) -> None:
        """Leave: the daemon ends what this conversation was about, unless that is a terminal."""
        self._end = self._end or "it was closed"
        self._socket.close()

    def _put(self, messages: tuple[Message, ...]) -> None:
        for opcode, payload in messages:
            self._out += frame(opcode, payload)

    @property
    def _sending(self) -> bool:
        return bool(self._out) and self._end is None

    def _next(self) -> Message | None:
        """Return a message that has come; raises `EOFError` when none will come any more."""
        if self._came:
            return self._came.popleft()
        if self._end is not None:
            raise EOFError(self._end)
        return None

    def _wanted(self) -> int:
        """Return the events to wait for, as `select.poll` has them."""
        while self._supply is not None and len(self._out) < HIGH_WATER_BYTES:
            message = next(self._supply, None)
            if message is None:
                self._supply = None
            else:
                self._out += frame(*message)
        return select.POLLIN | (select.POLLOUT if self._out else 0)

    def _serve(self, events: int) -> None:
        """Send and receive what can be, after `events`; raises `OSError` and `SocketViolation`."""
        if events & select.POLLOUT:
            self._flush()
        if events & ~select.POLLOUT:
            with contextlib.suppress(BlockingIOError):
                self._take(self._socket.recv(RECEIVE_BYTES))

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._out)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._out.clear()  # the reading side hears of it, after what the daemon had still to say
            self._supply = None
            return
        del self._out[:sent]

    def _take(self, data: bytes) -> None:
        if data:
            self._reader.feed(data)
            self._deliver()
        elif self._end is None:
            self._end = "the daemon closed the connection"

    def _deliver(self) -> None:
        for opcode, payload in self._reader.messages():
            if opcode == PING:
                self._out += frame(PONG, payload)
            elif opcode == CLOSE:
                # Kept for later: the last messages came with it, and are yet to be received.
                self._end = payload[2:].decode(errors="replace") or "the daemon closed the connection"
            elif opcode != PONG:
                self._came.append((opcode, payload))
