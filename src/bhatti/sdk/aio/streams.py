"""Conversations with commands and terminals, for asyncio."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Self

from bhatti.sdk.aio.connection import conversation
from bhatti.sdk.duplex import Duplex
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.facts import CommandFacts, TerminalFacts
from bhatti.sdk.results import Output
from bhatti.sdk.talks import CommandTalk, Message, TerminalTalk, as_bytes, fed, lost
from bhatti.sdk.websocket import SocketViolation


class Socket(Duplex):
    """A conversation with the daemon, waited for by the event loop; one task may send while another receives."""

    def __init__(self, opened: socket.socket, rest: bytes) -> None:
        super().__init__(opened, rest)
        self._waiters: list[asyncio.Future[int]] = []

    async def send(self, *messages: Message) -> None:
        """Send messages; returns when they have left, or nobody takes them any more. What comes meanwhile is kept.

        Cancelled, it leaves the rest to whoever sends or receives next.
        """
        self._put(messages)
        while self._sending:
            await self._exchange()

    async def receive(self) -> Message:
        """Return the next message; raises `OSError` or `EOFError` when the connection ends without one.

        Cancelled, it has taken none.
        """
        while (message := self._next()) is None:
            await self._exchange()
        return message

    def close(self) -> None:
        """Leave, as `Duplex.close` does; whoever waits hears of it."""
        if self._waiters:
            self._watch(0)
            self._wake(0)
        super().close()

    async def _exchange(self) -> None:
        """Wait until something can be read or sent, and do that."""
        wanted = self._wanted()
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._watch(wanted)
        try:
            events = await waiter
        finally:
            self._waiters.remove(waiter)
            if not self._waiters and self._end is None:
                self._watch(0)
        if events:
            self._serve(events)

    def _watch(self, events: int) -> None:
        loop = asyncio.get_running_loop()
        if events & select.POLLIN:
            loop.add_reader(self._socket, self._wake, select.POLLIN)
        else:
            loop.remove_reader(self._socket)
        if events & select.POLLOUT:
            loop.add_writer(self._socket, self._wake, select.POLLOUT)
        else:
            loop.remove_writer(self._socket)

    def _wake(self, events: int) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(events)


class _Stream:
    """What a command and a terminal have in common: opened by `async with` or by the first use, closed by leaving."""

    def __init__(self, endpoint: Endpoint, talk: CommandTalk | TerminalTalk) -> None:
        self._endpoint = endpoint
        self._told = talk
        self._socket: Socket | None = None
        self._closed = False
        self._opening = asyncio.Lock()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def __del__(self) -> None:
        """A loop over a command that was left early leaves nobody to close it."""
        self._leave()

    async def close(self) -> None:
        """Leave the conversation."""
        self._leave()

    def _leave(self) -> None:
        self._closed = True
        if self._socket is not None:
            self._socket.close()

    async def _opened(self) -> Socket:
        if self._closed:
            raise ValueError(f"{self._told.what} is closed")
        async with self._opening:
            if self._socket is None:
                self._socket = Socket(*await conversation(self._endpoint, self._told.target))
                await self._began(self._socket)
        return self._socket

    async def _began(self, opened: Socket) -> None:
        """Say and hear what the conversation begins with."""
        await opened.send(*self._told.opening)

    async def _send(self, *messages: Message) -> None:
        try:
            await (await self._opened()).send(*messages)
        except (OSError, EOFError, SocketViolation) as err:
            self._leave()
            raise lost(self._told.what, err) from err

    async def _received(self, opened: Socket | None = None) -> Output | bytes | None:
        """Return what the next message holds; raises the error that it tells of."""
        try:
            return self._told.receive(*await (opened or await self._opened()).receive())
        except (OSError, EOFError, SocketViolation) as err:
            raise lost(self._told.what, err) from err
        finally:
            if self._told.done:
                self._leave()


class Command(_Stream, CommandFacts):
    """A running command: iterate over its output as it comes.

    It ends, with all it has started, at the end of its block, or, without one, when nobody has this object any more;
    also when the task that waits for its output is cancelled.

    `exit_code` and `reason` are known when the iteration is over.
    """

    def __init__(self, endpoint: Endpoint, talk: CommandTalk, stdin: Iterable[bytes] | None) -> None:
        super().__init__(endpoint, talk)
        self._talk = talk
        self._stdin = stdin

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output:
        while not self._talk.done:
            try:
                output = await self._received()
            except BaseException:
                self._leave()
                raise
            if isinstance(output, Output):
                return output
        raise StopAsyncIteration

    async def write(self, data: bytes | str) -> None:
        """Give it input. Returns when the daemon has taken it; needs `stream(…, interactive=True)`."""
        await self._send(*self._talk.input(as_bytes(data)))

    async def close_stdin(self) -> None:
        """Tell it that there is no more input."""
        await self._send(self._talk.end_of_input())

    async def kill(self) -> None:
        """End it with all it has started; the iteration goes on to what it still said."""
        await self._send(self._talk.kill())

    async def _began(self, opened: Socket) -> None:
        await super()._began(opened)
        if self._stdin is not None:
            opened.supply(fed(self._talk, self._stdin))


class Terminal(_Stream, TerminalFacts):
    """A terminal: what its program writes comes by `read` or iteration; `write` types.

    Leaving detaches: the session lives on, and `sessions.attach` comes back to it.
    """

    def __init__(self, endpoint: Endpoint, talk: TerminalTalk) -> None:
        super().__init__(endpoint, talk)
        self._talk = talk

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (data := await self.read()) is not None:
            yield data

    @property
    def session_id(self) -> str:
        """The session to attach to later."""
        if not self._talk.session_id:
            raise ValueError(f"{self._talk.what} has not begun: enter its block first, or read from it")
        return self._talk.session_id

    async def read(self) -> bytes | None:
        """Return what came next, None at the end of the program."""
        while not self._talk.done:
            if isinstance(data := await self._received(), bytes):
                return data
        return None

    async def write(self, data: bytes | str) -> None:
        """Type something."""
        await self._send(*self._talk.typed(as_bytes(data)))

    async def resize(self, rows: int, cols: int) -> None:
        """Give it another size."""
        await self._send(self._talk.resize(rows, cols))

    async def _began(self, opened: Socket) -> None:
        await super()._began(opened)
        while not self._talk.begun:
            await self._received(opened)
