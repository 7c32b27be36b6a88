"""A connection to the monitor of a running QEMU: the shell around `qmp_protocol`."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import anyio

from bhatti.engines.qemu import qmp_protocol
from bhatti.engines.unix_socket import open_socket
from bhatti.errors import BhattiError, EngineFailure, Unavailable

COMMAND_TIMEOUT_S = 10.0
"""QEMU answers within a millisecond, but its main loop may be busy loading or saving a state for seconds."""

EventListener = Callable[[qmp_protocol.Event], None]


class EventQueue:
    """The events of one name, in order; made by `Monitor.events`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._items: asyncio.Queue[qmp_protocol.Event | BhattiError] = asyncio.Queue()

    def put(self, item: qmp_protocol.Event | BhattiError) -> None:
        """Take an event, if it is one of ours, or the end of the connection."""
        if isinstance(item, BhattiError) or item.name == self.name:
            self._items.put_nowait(item)

    async def next(self, *, timeout_s: float) -> qmp_protocol.Event:
        """Return the next event. Raises `Unavailable` (code `monitor-unavailable`). Safe to cancel."""
        try:
            async with asyncio.timeout(timeout_s):
                item = await self._items.get()
        except TimeoutError as error:
            raise Unavailable(f"no event {self.name} within {timeout_s:g} s", code="monitor-unavailable") from error
        if isinstance(item, BhattiError):
            raise item
        return item


class Monitor(asyncio.Protocol):
    """One connection; several commands may be under way at once. Made by `connect`, ended by `aclose`."""

    def __init__(self, on_event: EventListener | None = None) -> None:
        self._protocol = qmp_protocol.QmpProtocol()
        self._on_event = on_event
        self._queues: list[EventQueue] = []
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, asyncio.Future[qmp_protocol.Reply]] = {}
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._closed = asyncio.Event()

    @classmethod
    async def connect(cls, path: Path, *, timeout_s: float, on_event: EventListener | None = None) -> "Monitor":
        """Connect to the socket at `path` and wait until commands may be sent.

        Raises `Unavailable` (code `monitor-unavailable`) if nobody listens, if the other end closes, or after
        `timeout_s`. Safe to cancel: nothing stays open.
        """
        try:
            with anyio.fail_after(timeout_s):
                connection = await anyio.to_thread.run_sync(open_socket, path)
                loop = asyncio.get_running_loop()
                _, monitor = await loop.create_unix_connection(lambda: cls(on_event), sock=connection)
                try:
                    await monitor._ready
                except BaseException:
                    await monitor.aclose()
                    raise
                return monitor
        except TimeoutError as error:
            raise Unavailable(
                f"no answer from the monitor {path} within {timeout_s:g} s", code="monitor-unavailable"
            ) from error
        except OSError as error:
            raise Unavailable(f"no monitor at {path}: {error.strerror}", code="monitor-unavailable") from error

    async def execute(
        self, command: str, arguments: dict[str, Any] | None = None, *, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> object:
        """Run a command and return its value.

        Raises `EngineFailure` (code `monitor-refused`) with QEMU's words, `Unavailable` (code `monitor-unavailable`)
        when the connection ends or no answer came in `timeout_s`. Cancelling stops the waiting, not the command.
        """
        number = self._protocol.execute(command, arguments)
        self._flush()
        return await self._answer(number, command, timeout_s)

    @contextlib.contextmanager
    def events(self, name: str) -> Iterator["EventQueue"]:
        """Collect the events called `name` that come from now on, for as long as the block lasts."""
        queue = EventQueue(name)
        self._queues.append(queue)
        try:
            yield queue
        finally:
            self._queues.remove(queue)

    async def give_file(self, name: str, file: int) -> None:
        """Hand an open file to QEMU, which knows it as `name` from then on (`fd:NAME` in a migration address).

        Raises and can be cancelled like `execute`.
        """
        assert self._transport is not None
        number = self._protocol.execute("getfd", {"fdname": name})
        # The file must travel with the order. asyncio has no call for that, so this one write goes around it; nothing
        # of ours is ever left in its buffer, orders being far smaller than a socket's.
        with socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno())) as raw:
            try:
                socket.send_fds(raw, [self._protocol.data_to_send()], [file])
            except OSError as error:
                raise Unavailable(f"qemu took no file: {error.strerror}", code="monitor-unavailable") from error
        await self._answer(number, "getfd", COMMAND_TIMEOUT_S)

    async def quit(self) -> None:
        """Tell QEMU to end. It may close the connection before it answers, which is fine too."""
        with contextlib.suppress(Unavailable):
            await self.execute("quit")

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self._closed.is_set()

    async def aclose(self) -> None:
        """End the connection; QEMU goes on. Idempotent."""
        if self._transport is not None:
            self._transport.abort()
            with anyio.CancelScope(shield=True):
                await self._closed.wait()

    async def __aenter__(self) -> Self:
        """Return the connection."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.aclose()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the greeting will come by itself."""
        # A cast, not a check: uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the protocol and messages to those who wait for them."""
        try:
            messages = self._protocol.receive_data(data)
        except EngineFailure as error:
            self._fail(error)
            assert self._transport is not None
            self._transport.abort()
            return
        for message in messages:
            self._dispatch(message)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self._protocol.receive_end()
        self._fail(Unavailable("qemu closed its monitor", hint="the machine has ended", code="monitor-unavailable"))
        self._closed.set()

    async def _answer(self, number: int, command: str, timeout_s: float) -> object:
        """Wait for the reply to the order `number`."""
        waiting: asyncio.Future[qmp_protocol.Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        try:
            async with asyncio.timeout(timeout_s):
                reply = await waiting
        except TimeoutError as error:
            raise Unavailable(
                f"the monitor did not answer {command!r} within {timeout_s:g} s", code="monitor-unavailable"
            ) from error
        finally:
            self._waiting.pop(number, None)
        if reply.error_class:
            raise EngineFailure(
                f"qemu refused {command!r}: {reply.description} ({reply.error_class})", code="monitor-refused"
            )
        return reply.value

    def _dispatch(self, message: qmp_protocol.Message) -> None:
        if isinstance(message, qmp_protocol.Event):
            if self._on_event is not None:
                self._on_event(message)
            for queue in self._queues:
                queue.put(message)
        elif isinstance(message, qmp_protocol.Ready):
            if not self._ready.done():
                self._ready.set_result(message.version)
        else:
            # An answer that nobody waits for any more: the caller was cancelled or gave up.
            waiting = self._waiting.get(message.id)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)

    def _flush(self) -> None:
        assert self._transport is not None
        data = self._protocol.data_to_send()
        if data:
            self._transport.write(data)

    def _fail(self, error: BhattiError) -> None:
        for queue in self._queues:
            queue.put(error)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)
        if not self._ready.done():
            self._ready.set_exception(error)
        # Whoever connected may have given up already; an exception nobody fetches would be logged at exit.
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()


def listen(path: Path) -> socket.socket:
    """Return a listening socket at `path`, for QEMU to inherit.

    We listen, not QEMU: so the socket is there before the process is, and nobody has to wait for it to appear.
    """
    path.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(f"/proc/self/fd/{directory}/{path.name}")
            path.chmod(0o600)
            listener.listen(1)
        except BaseException:
            listener.close()
            raise
    finally:
        os.close(directory)
    return listener
