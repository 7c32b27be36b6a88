"""Two sockets made one: what comes from either goes to the other.

Each direction has its own end: when one side has sent its last byte, that end is passed on, and the other direction
goes on. What waits for a slow side is one read's worth; nothing more is read until it has gone.
"""

from __future__ import annotations

import socket

from lohar.connection import ABORT
from lohar.poller import GONE, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lohar.loop import Loop

RELAY_SIZE = 64 << 10
"""One read. Two of them are what a relay can hold."""


class Side:
    """One of the two sockets of a relay, and what waits to be sent to it."""

    __slots__ = ("_loop", "_muted", "_relay", "ended", "finished", "mask", "sock", "waiting")

    def __init__(self, relay: Relay, loop: Loop, sock: socket.socket) -> None:
        self._relay = relay
        self._loop = loop
        self.sock = sock
        self.waiting: bytes | memoryview = b""
        self.ended = False
        """It has sent its last byte."""
        self.finished = False
        """It was told that the other side has."""
        self.mask = READ
        self._muted = False
        loop.register(sock.fileno(), READ, self._ready)

    def _ready(self, mask: int) -> None:
        self._relay.ready(self, mask)

    def watch(self, mask: int) -> None:
        """Watch for `mask` from now on."""
        if mask == self.mask:
            return
        self.mask = mask
        if not self._muted:
            self._loop.modify(self.sock.fileno(), mask)
        elif mask:
            self._muted = False
            self._loop.register(self.sock.fileno(), mask, self._ready)

    def mute(self) -> None:
        """Watch for nothing: a hang-up would be reported over and over until the socket is read to its end."""
        self._muted = True
        self._loop.unregister(self.sock.fileno())

    def close(self, *, abort: bool) -> None:
        """Close the socket."""
        self._loop.unregister(self.sock.fileno())
        if abort and self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self.sock.close()


class Relay:
    """Passes bytes between two sockets until both directions have ended; then, or on any error, `on_close` is called.

    `first` was received from `left` already.
    """

    def __init__(
        self, loop: Loop, left: socket.socket, right: socket.socket, first: bytes, on_close: Callable[[], None]
    ) -> None:
        self._on_close = on_close
        self._open = True
        self.left = Side(self, loop, left)
        self.right = Side(self, loop, right)
        if first:
            self._pass_on(self.left, self.right, first)

    def ready(self, side: Side, mask: int) -> None:
        """Move what can be moved to and from `side`."""
        other = self.right if side is self.left else self.left
        try:
            if mask & WRITE and side.waiting:
                self._pass_on(other, side, side.waiting)
            if self._open and mask & READ and side.mask & READ:
                self._receive(side, other)
            elif self._open and mask & GONE and not side.mask & READ:
                # With READ it was asked for after this event came; the next one says what there is to read.
                self._gone(side, other)
        except BlockingIOError:
            return
        except OSError:
            self.close(abort=True)

    def _receive(self, side: Side, other: Side) -> None:
        data = side.sock.recv(RELAY_SIZE)
        if data:
            self._pass_on(side, other, data)
            return
        side.ended = True
        side.watch(side.mask & ~READ)
        self._finish(side, other)

    def _gone(self, side: Side, other: Side) -> None:
        """Handle that `side` is closed in both directions while it is not being read."""
        error = side.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.close(abort=True)
        elif side.ended and not other.waiting:
            self.close()
        else:
            side.mute()  # what it sent before is read when `other` has taken what waits

    def _pass_on(self, side: Side, other: Side, data: bytes | memoryview) -> None:
        """Send `data`, which came from `side`, to `other`; keep what does not fit, and read no more until it does."""
        try:
            sent = other.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            other.waiting = memoryview(data)[sent:]
            other.watch(other.mask | WRITE)
            side.watch(side.mask & ~READ)
            return
        other.waiting = b""
        other.watch(other.mask & ~WRITE)
        if side.ended:
            self._finish(side, other)
        else:
            side.watch(side.mask | READ)

    def _finish(self, side: Side, other: Side) -> None:
        """Tell `other` that `side` has ended, once it has everything; close when both have."""
        if other.waiting or other.finished:
            return
        other.finished = True
        if side.finished and other.ended:
            self.close()
            return
        try:
            other.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()  # `other` is gone and will not send anything either

    def close(self, *, abort: bool = False) -> None:
        """Close both sides; with `abort` so that both learn that something went wrong."""
        if self._open:
            self._open = False
            self.left.close(abort=abort)
            self.right.close(abort=abort)
            self._on_close()
