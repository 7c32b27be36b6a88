"""Conversations with commands and terminals, for threads."""

import select
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from bhatti.sdk.duplex import Duplex
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.execution import conversation
from bhatti.sdk.facts import CommandFacts, TerminalFacts
from bhatti.sdk.results import Output
from bhatti.sdk.talks import CommandTalk, Message, TerminalTalk, as_bytes, fed, lost
from bhatti.sdk.websocket import SocketViolation


class Socket(Duplex):
    """A conversation with the daemon, waited for by blocking."""

    def __init__(self, endpoint: Endpoint, target: str) -> None:
        super().__init__(*conversation(endpoint, target))
        self._poll = select.poll()

    def send(self, *messages: Message) -> None:
        """Send messages; returns when they have left, or nobody takes them any more. What comes meanwhile is kept."""
        self._put(messages)
        while self._sending:
            self._exchange()

    def receive(self) -> Message:
        """Return the next message; raises `OSError` or `EOFError` when the connection ends without one."""
        while (message := self._next()) is None:
            self._exchange()
        return message

    def _exchange(self) -> None:
        """Wait until something can be read or sent, and do that."""
        self._poll.register(self._socket, self._wanted())
        for _, events in self._poll.poll():
            self._serve(events)


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


class Command(_Stream, CommandFacts):
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

    def write(self, data: bytes | str) -> None:
        """Give it input. Returns when the daemon has taken it; needs `stream(…, interactive=True)`."""
        self._send(*self._talk.input(as_bytes(data)))

    def close_stdin(self) -> None:
        """Tell it that there is no more input."""
        self._send(self._talk.end_of_input())

    def kill(self) -> None:
        """End it with all it has started; the iteration goes on to what it still said."""
        self._send(self._talk.kill())

    def _began(self, opened: Socket) -> None:
        super()._began(opened)
        if self._stdin is not None:
            opened.supply(fed(self._talk, self._stdin))


class Terminal(_Stream, TerminalFacts):
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

    def read(self) -> bytes | None:
        """Return what came next, None at the end of the program."""
        while not self._talk.done:
            if isinstance(data := self._received(), bytes):
                return data
        return None

    def write(self, data: bytes | str) -> None:
        """Type something."""
        self._send(*self._talk.typed(as_bytes(data)))

    def resize(self, rows: int, cols: int) -> None:
        """Give it another size."""
        self._send(self._talk.resize(rows, cols))

    def _began(self, opened: Socket) -> None:
        super()._began(opened)
        while not self._talk.begun:
            self._received()
