"""Conversations with commands and terminals, for threads."""

import contextlib
import select
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.execution import conversation
from bhatti.sdk.results import Output
from bhatti.sdk.talks import CommandTalk, Message, TerminalTalk, lost
from bhatti.sdk.websocket import CLOSE, PING, PONG, FrameReader, SocketViolation, frame

RECEIVE_BYTES = 256 << 10

HIGH_WATER_BYTES = 1 << 20
"""With this much waiting to be sent, no more input is taken from where it comes from."""


class Socket:
    """A WebSocket that never deadlocks: while it waits for one direction it serves the other."""

    def __init__(self, endpoint: Endpoint, target: str) -> None:
        self._socket, rest = conversation(endpoint, target)
        self._socket.setblocking(False)
        self._reader = FrameReader(rest)
        self._came: deque[Message] = deque()
        self._end: str | None = None
        self._out = bytearray()
        self._supply: Iterator[Message] | None = None
        self._poll = select.poll()
        self._deliver()

    def supply(self, messages: Iterator[Message]) -> None:
        """Send `messages`, taken as the other side takes them, while others are waited for."""
        self._supply = messages

    def send(self, *messages: Message) -> None:
        """Send messages; returns when they have left, or nobody takes them any more. What comes meanwhile is kept."""
        for opcode, payload in messages:
            self._out += frame(opcode, payload)
        while self._out and self._end is None:
            self._exchange()

    def receive(self) -> Message:
        """Return the next message; raises `OSError` or `EOFError` when the connection ends without one."""
        while not self._came:
            if self._end is not None:
                raise EOFError(self._end)
            self._exchange()
        return self._came.popleft()

    def close(self) -> None:
        """Leave: the daemon ends what this conversation was about, unless that is a terminal."""
        self._socket.close()

    def _exchange(self) -> None:
        """Wait until something can be read or sent, and do that."""
        self._refill()
        self._poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._out else 0))
        for _, events in self._poll.poll():
            if events & select.POLLOUT:
                self._flush()
            if events & ~select.POLLOUT:
                with contextlib.suppress(BlockingIOError):
                    self._take(self._socket.recv(RECEIVE_BYTES))

    def _refill(self) -> None:
        while self._supply is not None and len(self._out) < HIGH_WATER_BYTES:
            message = next(self._supply, None)
            if message is None:
                self._supply = None
            else:
                self._out += frame(*message)

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


class _Stream:
    """What a command and a terminal have in common: opened by `with` or by the first use, closed by leaving."""

    def __init__(self, endpoint: Endpoint, talk: CommandTalk | TerminalTalk) -> None:
        self._endpoint = endpoint
        self._told = talk
        self._socket: Socket | None = None
        self._closed = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """A loop over a command that was left early leaves nobody to close it."""
        self.close()

    def close(self) -> None:
        """Leave the conversation."""
        self._closed = True
        if self._socket is not None:
            self._socket.close()

    def _opened(self) -> Socket:
        if self._closed:
            raise ValueError(f"{self._told.what} is closed")
        if self._socket is None:
            self._socket = Socket(self._endpoint, self._told.target)
            self._began(self._socket)
        return self._socket

    def _began(self, opened: Socket) -> None:
        self._send(*self._told.opening)

    def _send(self, *messages: Message) -> None:
        try:
            self._opened().send(*messages)
        except (OSError, EOFError, SocketViolation) as err:
            self.close()
            raise lost(self._told.what, err) from err

    def _received(self) -> Output | bytes | None:
        """Return what the next message holds; raises the error that it tells of."""
        try:
            return self._told.receive(*self._opened().receive())
        except (OSError, EOFError, SocketViolation) as err:
            raise lost(self._told.what, err) from err
        finally:
            if self._told.done:
                self.close()


class Command(_Stream):
    """A running command: iterate over its output as it comes.

    It ends, with all it has started, at the end of its block, or, without one, when nobody has this object any more.

    `exit_code` and `reason` are known when the iteration is over.
    """

    def __init__(self, endpoint: Endpoint, talk: CommandTalk, stdin: Iterable[bytes] | None) -> None:
        super().__init__(endpoint, talk)
        self._talk = talk
        self._stdin = stdin

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Output:
        while not self._talk.done:
            try:
                output = self._received()
            except BaseException:
                self.close()
                raise
            if isinstance(output, Output):
                return output
        raise StopIteration

    @property
    def exit_code(self) -> int | None:
        """Its exit code, as a shell would have it; None while it runs."""
        return self._talk.exit_code

    @property
    def reason(self) -> str:
        """Why it ended: `exited`, `signalled`, `timeout`, `killed`, `oom`; nothing while it runs."""
        return self._talk.reason

    def write(self, data: bytes | str) -> None:
        """Give it input. Returns when the daemon has taken it; needs `stream(…, interactive=True)`."""
        self._send(*self._talk.input(data.encode() if isinstance(data, str) else data))

    def close_stdin(self) -> None:
        """Tell it that there is no more input."""
        self._send(self._talk.end_of_input())

    def kill(self) -> None:
        """End it with all it has started; the iteration goes on to what it still said."""
        self._send(self._talk.kill())

    def _began(self, opened: Socket) -> None:
        super()._began(opened)
        if self._stdin is not None:
            opened.supply(_input(self._talk, self._stdin))


class Terminal(_Stream):
    """A terminal: what its program writes comes by `read` or iteration; `write` types.

    Leaving detaches: the session lives on, and `sessions.attach` comes back to it.
    """

    def __init__(self, endpoint: Endpoint, talk: TerminalTalk) -> None:
        super().__init__(endpoint, talk)
        self._talk = talk

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __iter__(self) -> Iterator[bytes]:
        while (data := self.read()) is not None:
            yield data

    @property
    def session_id(self) -> str:
        """The session to attach to later."""
        if not self._talk.begun:
            self._opened()
        return self._talk.session_id

    @property
    def offset(self) -> int:
        """How many bytes the terminal had produced at the end of what was read: where to go on later."""
        return self._talk.offset

    @property
    def gap(self) -> int:
        """How many bytes were asked for with `since` and are kept no more."""
        return self._talk.gap

    @property
    def exit_code(self) -> int | None:
        """The exit code of its program; None while it runs."""
        return self._talk.exit_code

    def read(self) -> bytes | None:
        """Return what came next, None at the end of the program."""
        while not self._talk.done:
            if isinstance(data := self._received(), bytes):
                return data
        return None

    def write(self, data: bytes | str) -> None:
        """Type something."""
        self._send(*self._talk.typed(data.encode() if isinstance(data, str) else data))

    def resize(self, rows: int, cols: int) -> None:
        """Give it another size."""
        self._send(self._talk.resize(rows, cols))

    def _began(self, opened: Socket) -> None:
        super()._began(opened)
        while not self._talk.begun:
            self._received()


def _input(talk: CommandTalk, pieces: Iterable[bytes]) -> Iterator[Message]:
    for piece in pieces:
        yield from talk.input(piece)
    yield talk.end_of_input()
