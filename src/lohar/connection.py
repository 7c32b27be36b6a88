"""One control connection: frames in, requests dispatched one at a time, frames out, bounded in both directions.

Theory of operation. A connection is silent until its AUTH was good (if there is a token). Then each frame is either a
request, which a handler answers at once or turns into an `Operation`, or belongs to the operation under way.

Who closes: a client of the reference protocol sends one request and may wait for the end of the stream, so the agent
closes after its reply. Once a client has said HELLO, connections are kept for the next request (`keep_alive`).

Memory: output waits in `_out`; above HIGH_WATER the connection is `congested` and whoever produces must pause until
`drained`. Input is bounded by the parser's frame limit and by `pause`.
"""

from __future__ import annotations

import errno
import socket
import struct

from lohar.failures import RequestError
from lohar.outbox import Outbox
from lohar.poller import GONE, READ, WRITE
from lohar.wire.frames import FrameError, FrameParser, FrameType, encode, try_parse
from lohar.wire.limits import LIMITS
from lohar.wire.messages import MessageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lohar.loop import Loop, Timer
    from lohar.operation import Operation
    from lohar.outbox import FilePart

    Dispatch = Callable[["Connection", int, bytes], "Operation | None"]
    Gate = Callable[[int, bytes], bool]

RECEIVE_SIZE = 256 << 10
"""As much as a unix socket holds with its default buffer (208 KiB)."""

_RECEIVED = memoryview(bytearray(RECEIVE_SIZE))
"""What all connections read into, in turns: one thread, and the parser copies out what it keeps."""

HIGH_WATER = 256 << 10
"""Output waiting at which producers pause, until all of it has gone: the kernel's own buffer (208 KiB) keeps the client
busy meanwhile."""

SMALL = 4096
"""Up to here a read is worth looking at as one complete frame: the parser, which is for streams, costs 15 us more."""

LINGER_S = 2.0
"""How long we wait for a client's own close after our last byte. Closing at once could destroy, on TCP, what the client
has not read yet (RFC 1122, 4.2.2.13); a client needs a round trip, two seconds are for a loaded machine."""

ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: the close that tells a peer at once, with a reset, instead of politely."""

LEFT_OVER = frozenset({FrameType.STDIN, FrameType.RESIZE, FrameType.KILL})
"""What a client may still have sent to a request that ended meanwhile: no error, on a kept-alive connection."""


class Connection:
    """A client. `dispatch(connection, kind, payload)` starts requests; `on_close` is told when all is over.

    `gate(kind, payload)` judges the first frame; None lets everybody in.
    """

    __slots__ = (
        "_closing", "_dispatch", "_flush_due", "_gate", "_loop", "_mask", "_on_close", "_out", "_parser",
        "_paused", "_process_due", "_queue", "_served", "_timer", "_want_drained", "ended", "keep_alive", "operation",
        "sock", "stay_open",
    )  # fmt: skip

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        dispatch: Dispatch,
        on_close: Callable[[Connection], None],
        gate: Gate | None = None,
    ) -> None:
        self.sock: socket.socket | None = sock
        self.operation: Operation | None = None
        self.keep_alive = False
        """Another request may follow the one under way."""
        self.stay_open = False
        """The reference's exception: after a terminal's EXIT the agent waits for the host to close."""
        self.ended = False
        """The client has half-closed."""
        self._loop = loop
        self._dispatch = dispatch
        self._on_close = on_close
        self._parser = FrameParser(pieces=True)
        self._queue: list[tuple[int, bytes]] = []
        self._out = Outbox()
        self._flush_due = False
        self._want_drained = False
        self._process_due = False
        self._paused = False
        self._closing = False
        self._served = False
        self._gate = gate
        self._timer: Timer | None = None
        if gate is not None:
            self._timer = loop.call_later(LIMITS.auth_timeout_ms / 1000, self._not_authorized)
        self._mask = READ
        loop.register(sock.fileno(), READ, self._ready)

    # --- output

    @property
    def congested(self) -> bool:
        """So much output waits that a producer has to pause; `Operation.drained` will tell when it can go on."""
        return self._out.size > HIGH_WATER

    def send(self, kind: int, payload: bytes | bytearray | memoryview = b"") -> None:
        """Send a frame. What is sent in one turn of the loop leaves in one write."""
        self.send_encoded(encode(kind, payload))

    def send_encoded(self, frames: bytes | FilePart) -> None:
        """Send frames that are encoded already, or a part of a file that belongs into one."""
        if self.sock is None or self._closing:
            return
        self._out.add(frames)
        if self._out.size > HIGH_WATER:
            self._want_drained = True
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def fail(self, message: str) -> None:
        """Answer the request under way with ERROR, and end it."""
        self.send(FrameType.ERROR, message.encode("utf-8", "backslashreplace"))
        self.finish()

    def finish(self) -> None:
        """End the request under way: its last frame has been sent."""
        self.operation = None
        self.resume()
        if not self._process_due:
            # Outside of a series of requests nothing comes after this: the client need not wait for the turn's end.
            self._flush()
        if not self.keep_alive and not self.stay_open:
            self.close_politely()
        elif not self._process_due:
            if self._queue:
                # Not from here: the caller is still in the middle of the request that ends.
                self._process_due = True
                self._loop.call_soon(self._process)
            elif self.ended:
                self.close_politely()

    def await_drained(self) -> None:
        """Have `Operation.drained` called when everything that was sent up to then has left."""
        self._want_drained = True

    def _flush(self) -> None:
        self._flush_due = False
        if not self._out or self.sock is None:
            return
        try:
            self._out.write(self.sock)
        except BlockingIOError:
            pass
        except (OSError, EOFError):
            # A frame that cannot be completed, or nobody to send it to.
            self.drop(abort=True)
            return
        if self._out:
            self._watch(self._mask | WRITE)
            return
        self._watch(self._mask & ~WRITE)
        if self._closing:
            self._half_close()
        elif self._want_drained:
            self._want_drained = False
            if self.operation is not None:
                self.operation.drained()

    # --- input

    def pause(self) -> None:
        """Read no more from the client for now; a client that dies meanwhile is still noticed."""
        if not self._paused:
            self._paused = True
            self._watch(self._mask & ~READ)

    def resume(self) -> None:
        """Undo `pause`."""
        if self._paused:
            self._paused = False
            if not self.ended and self.sock is not None:
                self._watch(self._mask | READ)
            if self._queue and not self._process_due:
                self._process_due = True
                self._loop.call_soon(self._process)

    def _ready(self, mask: int) -> None:
        try:
            if mask & WRITE:
                self._flush()
            if mask & READ and self._mask & READ:
                self._receive(mask)
            elif mask & GONE:
                self.drop()
        except Exception:
            # A defect of ours; its client must not wait for an answer that will not come.
            self.drop(abort=True)
            raise

    def _receive(self, mask: int) -> None:
        sock = self.sock
        if sock is None:
            return
        try:
            size = sock.recv_into(_RECEIVED)
        except BlockingIOError:
            return
        except OSError:
            self.drop()
            return
        if not size:
            self._ended(gone=bool(mask & GONE))
            return
        if self._closing:
            return
        if size <= SMALL and not self._queue and not self._parser.inside:
            frame = try_parse(_RECEIVED[:size])
            if frame is not None and frame[2] == size:
                # One small frame by itself, as nearly always: what follows is for all the others.
                self._queue.append((frame[0], bytes(_RECEIVED[frame[1] : size])))
                self._handle_queue()
                return
        self._parser.feed(_RECEIVED[:size])
        try:
            self._queue += self._parser.frames()
        except FrameError:
            self.drop(abort=True)
            return
        self._process()

    def _process(self) -> None:
        self._process_due = False
        if self.sock is None or not self._handle_queue():
            return
        if self.ended and self.operation is None:
            self.close_politely()
            return
        try:
            # Asked again, it says whether what follows the good frames can be one.
            self._parser.frames()
        except FrameError:
            # Where the next frame begins is unknown: nothing can be said that would be understood.
            self.drop(abort=True)

    def _handle_queue(self) -> bool:
        """Handle frames until none is left (True), or until one has to wait for the operation under way."""
        queue = self._queue
        if not queue:
            return True
        done = 0
        self._process_due = True  # it is being done
        try:
            for kind, payload in queue:
                if self._paused or self._closing or self.sock is None:
                    return False
                operation = self.operation
                if operation is None:
                    done += 1
                    self._begin(kind, payload)
                elif self.keep_alive and kind not in LEFT_OVER:
                    # The next request, sent early: it waits for its turn, and what follows it waits behind it.
                    self.pause()
                    return False
                else:
                    done += 1
                    operation.frame(kind, payload)
        finally:
            del queue[:done]
            self._process_due = False
        return True

    def _begin(self, kind: int, payload: bytes) -> None:
        if self._gate is not None:
            if self._gate(kind, payload):
                self._admit()
            else:
                self.refuse("auth required")
            return
        if self._served and kind in LEFT_OVER:
            return
        self._served = True
        try:
            self.operation = operation = self._dispatch(self, kind, payload)
            if operation is None:
                self.finish()
            else:
                operation.begin()
        except (RequestError, MessageError) as error:
            self.fail(str(error))
        except OSError as error:
            # No descriptors or no memory left, say: the request fails, the agent lives on.
            self.fail(f"agent: {error.strerror or error}".lower())

    def _ended(self, *, gone: bool) -> None:
        self.ended = True
        self._watch(self._mask & ~READ)
        if gone:
            self.drop()
        elif self.operation is not None:
            self.operation.end()
        elif self._queue:
            return  # requests that were sent ahead: each is served first
        elif self._out:
            self.close_politely()  # who half-closes with the request still wants the answer
        else:
            self.drop()

    # --- the end

    def _not_authorized(self) -> None:
        self.refuse("auth required")

    def _admit(self) -> None:
        self._gate = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def refuse(self, message: str) -> None:
        """Send ERROR and close."""
        self.keep_alive = self.stay_open = False
        self._admit()
        self.fail(message)

    def close_politely(self) -> None:
        """Close after what is waiting has been sent and the client has seen it."""
        if self._closing or self.sock is None:
            return
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush_last)
        self._closing = True

    def _flush_last(self) -> None:
        self._flush()
        if not self._out:
            self._half_close()

    def _half_close(self) -> None:
        if self.sock is None or self._timer is not None:
            return
        if self.ended:
            self.drop()
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EPIPE):
                raise
            self.drop()
            return
        self._timer = self._loop.call_later(LINGER_S, self.drop)

    def drop(self, *, abort: bool = False) -> None:
        """Close now, whatever is under way; with `abort` so that a TCP client notices without asking."""
        sock = self.sock
        if sock is None:
            return
        self.sock = None
        self._loop.unregister(sock.fileno())
        if abort and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        sock.close()
        self._out.clear()
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
        operation, self.operation = self.operation, None
        if operation is not None:
            operation.lost()
        self._on_close(self)

    def _watch(self, mask: int) -> None:
        if mask != self._mask and self.sock is not None:
            self._mask = mask
            self._loop.modify(self.sock.fileno(), mask)
