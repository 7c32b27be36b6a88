"""The forward port: one relayed TCP connection of the guest's loopback for each connection to it."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

from lohar.poller import READ, WRITE
from lohar.relay import Relay
from lohar.wire.frames import FrameType, encode, try_parse
from lohar.wire.limits import LIMITS
from lohar.wire.messages import ForwardRequest, ForwardResponse, MessageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lohar.loop import Loop, Timer

    Authorize = Callable[[bytes], bool]

ADDRESSES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
"""Tried in this order: development servers listen on either."""

CONNECT_TIMEOUT_S = 10.0
"""A loopback connects at once or not at all, but for a listener whose backlog is full: the kernel tries again after 1,
3 and 7 s."""


class Dial:
    """A connection to a port of the guest's loopback under way: `done(socket, error)` is called with one of them."""

    __slots__ = ("_address", "_done", "_error", "_left", "_loop", "_port", "_sock", "_timer")

    def __init__(self, loop: Loop, port: int, done: Callable[[socket.socket | None, str], None]) -> None:
        self._loop = loop
        self._port = port
        self._done = done
        self._left = list(ADDRESSES)
        self._sock: socket.socket | None = None
        self._address = ""
        self._error = ""
        self._timer: Timer = loop.call_later(CONNECT_TIMEOUT_S, self._timed_out)
        # Not before the caller knows this object.
        loop.call_soon(self._next)

    def cancel(self) -> None:
        """Give up; `done` is not called."""
        self._timer.cancel()
        self._left.clear()
        self._done = _ignore
        self._close()

    def _next(self) -> None:
        if not self._left:
            self._timer.cancel()
            self._done(None, self._error)
            return
        family, self._address = self._left.pop(0)
        try:
            self._sock = socket.socket(family, socket.SOCK_STREAM)
            self._sock.setblocking(False)
            number = self._sock.connect_ex((self._address, self._port))
        except OSError as error:  # no IPv6 in this kernel, say
            number = error.errno or errno.EIO
        if number == errno.EINPROGRESS and self._sock is not None:
            self._loop.register(self._sock.fileno(), WRITE, self._ready)
        else:
            self._settle(number)

    def _ready(self, _mask: int) -> None:
        assert self._sock is not None
        self._loop.unregister(self._sock.fileno())
        self._settle(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _settle(self, number: int) -> None:
        if number == 0:
            sock, self._sock = self._sock, None
            self._timer.cancel()
            self._done(sock, "")
            return
        # What the first address says counts: the second is only tried.
        self._error = self._error or f"dial tcp {self._address}:{self._port}: connect: {os.strerror(number).lower()}"
        self._close()
        self._next()

    def _timed_out(self) -> None:
        self._close()
        self._done(None, self._error or f"dial tcp {self._address}:{self._port}: connect: timed out")

    def _close(self) -> None:
        if self._sock is not None:
            self._loop.unregister(self._sock.fileno())
            self._sock.close()
            self._sock = None


def _ignore(*_: object) -> None:
    """Take no notice."""


RECEIVE_SIZE = 16 << 10

MAX_REQUEST = 64 << 10
"""AUTH and FWD_REQ, and what a client sends before it was answered: far more than any that keeps to the protocol."""


class ForwardClient:
    """A connection to the forward port. `authorize` judges a token, and is None where there is none."""

    __slots__ = ("_authorize", "_buffer", "_dial", "_loop", "_on_close", "_relay", "_sock", "_timer")

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        authorize: Authorize | None,
        on_close: Callable[[ForwardClient], None],
    ) -> None:
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._authorize = authorize
        self._on_close = on_close
        self._buffer = b""
        self._dial: Dial | None = None
        self._relay: Relay | None = None
        self._timer = loop.call_later(LIMITS.auth_timeout_ms / 1000, self._timed_out)
        loop.register(sock.fileno(), READ, self._ready)

    @property
    def connected(self) -> bool:
        """Whether it is relaying."""
        return self._relay is not None

    def _ready(self, mask: int) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(RECEIVE_SIZE) if mask & READ else b""
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._buffer += data
        if not data or len(self._buffer) > MAX_REQUEST:
            self.close()
        elif self._dial is None:
            self._parse()

    def _parse(self) -> None:
        while self._dial is None and self._sock is not None:
            frame = try_parse(self._buffer)
            if frame is None:
                if len(self._buffer) >= 4 and not 1 <= int.from_bytes(self._buffer[:4], "big") <= MAX_REQUEST:
                    self.close()
                return
            kind, start, end = frame
            payload, self._buffer = self._buffer[start:end], self._buffer[end:]
            self._request(kind, payload)

    def _request(self, kind: int, payload: bytes) -> None:
        if self._authorize is not None:
            if kind == FrameType.AUTH and self._authorize(payload):
                self._authorize = None
            else:
                self._finish(encode(FrameType.ERROR, b"auth required"))
            return
        if kind != FrameType.FWD_REQ:
            self._refuse(f"expected FWD_REQ, got 0x{kind:02x}")
            return
        try:
            request = ForwardRequest.from_json(payload)
        except MessageError as error:
            self._refuse(f"bad forward request: {error}")
            return
        self._timer.cancel()
        self._dial = Dial(self._loop, request.port, self._dialled)

    def _timed_out(self) -> None:
        self._finish(encode(FrameType.ERROR, b"auth required" if self._authorize is not None else b"timed out"))

    def _refuse(self, message: str) -> None:
        self._finish(encode(FrameType.FWD_RESP, ForwardResponse(status="error", message=message).to_json()))

    def _dialled(self, target: socket.socket | None, error: str) -> None:
        sock = self._sock
        assert sock is not None
        if target is None:
            self._refuse(error)
            return
        self._loop.unregister(sock.fileno())
        try:
            # A new connection's buffer has room for so few bytes.
            sock.send(encode(FrameType.FWD_RESP, ForwardResponse(status="ok").to_json()))
        except OSError:
            target.close()
            self.close()
            return
        self._sock = None
        self._relay = Relay(self._loop, sock, target, self._buffer, self._relay_closed)
        self._buffer = b""

    def _relay_closed(self) -> None:
        self._on_close(self)

    def _finish(self, frame: bytes) -> None:
        """Send a last frame, which fits into the buffer of a connection that has been sent nothing else, and close."""
        if self._sock is not None:
            with suppress(OSError):
                self._sock.send(frame)
        self.close()

    def close(self) -> None:
        """Close the connection, and what it is relayed to."""
        self._timer.cancel()
        if self._dial is not None:
            self._dial.cancel()
        if self._relay is not None:
            self._relay.close(abort=True)
        elif self._sock is not None:
            self._loop.unregister(self._sock.fileno())
            self._sock.close()
            self._sock = None
            self._on_close(self)
