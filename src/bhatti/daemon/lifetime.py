"""A daemon's life: take the state directory, serve at once, recover, serve everything, stop in order.

Theory of operation. The lock comes first, so that nothing of another daemon is touched. Then the socket: health is
answered from the first moment, everything else is refused as `starting` until recovery is over. At SIGTERM, SIGINT or
SIGHUP requests are refused, those under way get some seconds, orders are carried to their end, and the machines stay:
they are processes of their own, and the next daemon adopts them.
"""

import contextlib
import importlib.metadata
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import anyio
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from anyio import to_thread
from anyio.abc import TaskStatus

from bhatti.daemon import engine_choice
from bhatti.daemon.engine import open_engine
from bhatti.daemon.listener import BACKLOG, listening, listening_on_tcp
from bhatti.daemon.lock import sole_daemon
from bhatti.daemon.service import Service
from bhatti.daemon.settings import Settings
from bhatti.engines.base import Engine
from bhatti.errors import Unavailable
from bhatti.gateway.app import make_gateway
from bhatti.server.app import make_app
from bhatti.server.sockets import OPEN_SOCKETS
from bhatti.store.database import Database
from bhatti.store.journal import Journal

log = logging.getLogger(__name__)

KEEPALIVE_S = 75.0
"""How long a connection may be without a request, or with an unfinished head of one: what servers usually allow."""

LAST_WORDS_S = 0.5
"""For answers that are being written when the daemon stops, and again for handlers that are told to end. aiohttp would
take 0 for as long as it takes."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Listeners(NamedTuple):
    """Where the daemon listens: for callers of the API, and for strangers, who reach what is published."""

    api: list[socket.socket]
    gateway: socket.socket | None


@contextlib.contextmanager
def held(settings: Settings) -> Iterator[Listeners]:
    """Hold the state directory and listen on the socket, and on TCP and for the gateway if so set, for the block.

    Raises what keeps a daemon from starting: `Conflict` (another one), `InvalidRequest`, `Unavailable`. Blocks for
    some system calls, so it is entered before there is an event loop.
    """
    _make_directories(settings)
    with contextlib.ExitStack() as stack:
        stack.enter_context(sole_daemon(settings.lock))
        api = [stack.enter_context(listening(settings.socket))]
        if settings.listen:
            api.append(stack.enter_context(listening_on_tcp(settings.listen)))
        where = settings.gateway.listen
        yield Listeners(api, stack.enter_context(listening_on_tcp(where, "gateway.listen")) if where else None)


async def live(settings: Settings, listeners: Listeners, on_ready: Callable[[], None]) -> None:
    """Serve on `listeners` until a signal says stop. `on_ready` is called once everything is served.

    Raises `MissingDependency`, `CorruptData`, `Unavailable`, in a group.
    """
    async with anyio.create_task_group() as tasks:
        service = Service(settings, importlib.metadata.version("bhatti"), tasks)
        api = make_app(service)
        async with _Sites(settings.drain_s) as sites:
            with anyio.CancelScope() as serving:
                # Before anybody is answered: who has seen this daemon live must be able to end it politely.
                await tasks.start(_stop_at_signal, serving)
                await sites.open(api, listeners.api)
                if listeners.gateway is not None:
                    service.published.listens(listeners.gateway.getsockname()[1])
                    await sites.open(make_gateway(service.published, service.published.limits), [listeners.gateway])
                for listener in listeners.api:
                    _tell_where(listener, settings)
                await _serve(service, api, sites, settings, on_ready)
        tasks.cancel_scope.cancel()
    log.info("stopped")


class _Sites:
    """The applications that are served; `close` lets what is under way have some seconds.

    aiohttp's own way to stop takes nothing more from any connection, also not the rest of an upload: it comes last.
    """

    def __init__(self, drain_s: float) -> None:
        self._drain_s = drain_s
        self._runners: list[web.AppRunner] = []
        self._under_way: set[object] = set()
        self._ended = anyio.Event()

    async def open(self, app: web.Application, listeners: Sequence[socket.socket]) -> None:
        """Serve an application."""
        app.middlewares.insert(0, self._noting())
        runner = web.AppRunner(
            app,
            # A caller who leaves takes the command he waits for with him; orders are safe from it (`orders`).
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=LAST_WORDS_S,
            keepalive_timeout=KEEPALIVE_S,
        )
        self._runners.append(runner)
        await runner.setup()
        for listener in listeners:
            await web.SockSite(runner, listener, backlog=BACKLOG).start()

    async def close(self) -> None:
        """End all. Idempotent."""
        for site in [site for runner in self._runners for site in runner.sites]:
            await site.stop()
        left = set(self._under_way)  # and not those who come now, to be refused: there may always be some
        with anyio.move_on_after(self._drain_s):
            while left & self._under_way:
                self._ended = anyio.Event()
                await self._ended.wait()
        async with anyio.create_task_group() as tasks:
            while self._runners:
                tasks.start_soon(self._runners.pop().cleanup)

    def _noting(self) -> Middleware:
        """Return the middleware that notes what is under way."""

        @web.middleware
        async def noted(request: web.Request, handler: Handler) -> web.StreamResponse:
            this = object()  # requests themselves have no hash
            self._under_way.add(this)
            try:
                return await handler(request)
            finally:
                self._under_way.discard(this)
                self._ended.set()

        return noted

    async def __aenter__(self) -> "_Sites":
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()


async def _serve(
    service: Service, api: web.Application, sites: _Sites, settings: Settings, on_ready: Callable[[], None]
) -> None:
    async with _parts(settings) as (journal, engine):
        try:
            await service.start(journal, engine)
            on_ready()
            if settings.detect_blocking:
                _detect_blocking()
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                service.refuse()
                await api[OPEN_SOCKETS].close()
                await sites.close()  # requests under way get their seconds while the engine still works
                await service.stop()


@contextlib.asynccontextmanager
async def _parts(settings: Settings) -> AsyncIterator[tuple[Journal, Engine]]:
    """Open what the service works with, and close it again, machines excepted."""
    database = await Database.open(settings.database)
    try:
        # The engine's modules are imported here, on a thread: health is answered meanwhile.
        engine = await to_thread.run_sync(open_engine, settings)
        await to_thread.run_sync(engine_choice.check, settings, engine.name)
        async with engine:
            await to_thread.run_sync(engine_choice.record, settings, engine.name)
            yield Journal(database), engine
    finally:
        with anyio.CancelScope(shield=True):
            await database.aclose()


async def _stop_at_signal(serving: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(*STOP_SIGNALS) as signals:
        task_status.started()
        async for number in signals:
            log.info("%s: stopping", signal.Signals(number).name)
            serving.cancel()


def _tell_where(listener: socket.socket, settings: Settings) -> None:
    if listener.family == socket.AF_UNIX:
        log.info("listening on %s", settings.socket)
        return
    host, port = listener.getsockname()[:2]
    log.info("listening on %s", f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        log.warning("keys and everything else cross the network as plain text: put a proxy with TLS in front")


def _make_directories(settings: Settings) -> None:
    """Make the daemon's directories, for its owner alone."""
    for directory in (Path(settings.state_dir), Path(settings.runtime_dir)):
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as err:
            raise Unavailable(
                f"the directory {directory} cannot be made: {err.strerror}",
                hint="run as root, or set BHATTI_STATE_DIR and BHATTI_RUNTIME_DIR to directories of your own",
                code="state-dir-unusable",
            ) from err
        if not os.access(directory, os.W_OK | os.X_OK):
            raise Unavailable(
                f"the directory {directory} cannot be written by this user",
                hint="run as root, or set BHATTI_STATE_DIR and BHATTI_RUNTIME_DIR to directories of your own",
                code="state-dir-unusable",
            )


def _detect_blocking() -> None:
    """Raise wherever the event loop would block; for tests and for debugging."""
    from blockbuster import BlockBuster

    BlockBuster().activate()
