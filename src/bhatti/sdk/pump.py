"""The loop between a WebSocket and this process's own descriptors, for commands and terminals alike.

One thread, one `poll`: the socket, standard input, and a pipe that signals wake it through. It never waits for one side
only, except for a write to standard output: whoever does not read his output is waited for, and so, in the end, is the
command.
"""

import os
import select
import socket
import time
from collections.abc import Callable

from bhatti.sdk import websocket
from bhatti.sdk.websocket import BINARY, CLOSE, PING, PONG, TEXT, FrameReader

CHUNK_BYTES = 128 << 10
"""How much input is read at once; a message must fit into a frame of the guest's wire."""

HIGH_WATER_BYTES = 1 << 20
"""With this much waiting to be sent, standard input is left alone until the daemon has taken some."""

OnMessage = Callable[[int, bytes], bool]
"""Gets opcode (TEXT or BINARY) and payload; returns True when the conversation is over."""

OnInput = Callable[[bytes], None]
"""Gets what standard input brought; nothing means that it has ended."""


class Broken(Exception):
    """The connection ended before the conversation did."""


class Pump:
    """Carries messages in and input out until `on_message` says that it is over, or `stop` is called."""

    def __init__(self, sock: socket.socket, rest: bytes) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._reader = FrameReader(rest)
        self._out = bytearray()
        self._over = False
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._listening = False
        self._watched: dict[int, Callable[[], None]] = {}
        self._later: tuple[float, Callable[[], None]] | None = None

    def send(self, opcode: int, payload: bytes) -> None:
        """Queue a message; it leaves as the daemon takes it."""
        self._out += websocket.frame(opcode, payload)

    def stop(self) -> None:
        """End the conversation from this side."""
        self._over = True

    def watch(self, descriptor: int, on_ready: Callable[[], None]) -> None:
        """Call `on_ready` whenever `descriptor` can be read; meant for the pipe that signals write to."""
        self._watched[descriptor] = on_ready
        self._poll.register(descriptor, select.POLLIN)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call `call` once, `seconds` from now. There is one such call: another takes its place."""
        self._later = (time.monotonic() + seconds, call)

    def run(self, on_message: OnMessage, on_input: OnInput | None = None, *, stdin: int = 0) -> None:
        """Carry until it is over. Raises `Broken` if the connection ends first."""
        reading = on_input is not None
        self._deliver(on_message)
        while not self._over:
            self._listen(stdin, reading and len(self._out) < HIGH_WATER_BYTES)
            self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if self._out else 0))
            for descriptor, events in self._poll.poll(self._patience_ms()):
                if descriptor == self._socket.fileno():
                    self._exchange(events, on_message)
                elif descriptor in self._watched:
                    self._watched[descriptor]()
                elif on_input is not None and not self._over:
                    reading = self._take(stdin, on_input)
            if self._later is not None and time.monotonic() >= self._later[0]:
                (_, call), self._later = self._later, None
                call()
        self._listen(stdin, False)
        if self._out:
            self._flush()  # what was said before we stopped, as far as it fits

    def _patience_ms(self) -> float | None:
        return None if self._later is None else max(0.0, self._later[0] - time.monotonic()) * 1000

    def _listen(self, stdin: int, wanted: bool) -> None:
        """Poll standard input, or leave it alone."""
        if wanted and not self._listening:
            self._poll.register(stdin, select.POLLIN)
        elif self._listening and not wanted:
            self._poll.unregister(stdin)
        self._listening = wanted

    def _take(self, stdin: int, on_input: OnInput) -> bool:
        """Read standard input once; return whether there may be more."""
        try:
            data = os.read(stdin, CHUNK_BYTES)
        except OSError:  # closed from the beginning, or a terminal that is not ours any more
            data = b""
        on_input(data)
        return bool(data)

    def _exchange(self, events: int, on_message: OnMessage) -> None:
        if events & select.POLLOUT:
            self._flush()
        if not events & ~select.POLLOUT:
            return
        try:
            data = self._socket.recv(CHUNK_BYTES * 2)
        except BlockingIOError:
            return
        except OSError as err:
            raise Broken(str(err)) from err
        if not data:
            raise Broken("the daemon closed the connection")
        self._reader.feed(data)
        self._deliver(on_message)

    def _deliver(self, on_message: OnMessage) -> None:
        for opcode, payload in self._reader.messages():
            if opcode in (TEXT, BINARY):
                if on_message(opcode, payload):
                    self._over = True
                    return
            elif opcode == PING:
                self.send(PONG, payload)
            elif opcode == CLOSE:
                raise Broken(payload[2:].decode(errors="replace") or "the daemon closed the connection")

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._out)
        except OSError:
            return  # full again, or gone: then the reading side hears it, after what the daemon had still to say
        del self._out[:sent]
