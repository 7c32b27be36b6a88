"""A daemon inside the test's own process: real service, store, HTTP and agents, without a process of its own."""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import anyio
from aiohttp import web
from tests.engines.local import LocalEngine

from bhatti.daemon.service import Service
from bhatti.daemon.settings import Settings, load
from bhatti.gateway.app import make_gateway
from bhatti.guestlink.client import GuestLink
from bhatti.operations import types
from bhatti.sdk.endpoint import Endpoint
from bhatti.server.app import make_app
from bhatti.store.database import Database
from bhatti.store.journal import Journal


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose path is short enough for the unix sockets below it; pytest's own need not be."""
    with tempfile.TemporaryDirectory(prefix="bh", dir="/tmp") as name:
        yield Path(name)


def settings_in(directory: Path, *flags: str) -> Settings:
    """Settings of a daemon that has everything below `directory`."""
    return load([f"state_dir={directory}", "engine=tests.engines.local:LocalEngine", *flags], env={}, files=[])


@dataclass
class Served:
    """A daemon that serves, and what it is made of."""

    settings: Settings
    service: Service
    journal: Journal
    engine: LocalEngine
    http: aiohttp.ClientSession
    runner: web.AppRunner
    gateway: web.AppRunner

    @property
    def gateway_url(self) -> str:
        """Where published ports are."""
        return f"http://127.0.0.1:{self.gateway.addresses[0][1]}"

    @property
    def url(self) -> str:
        """Where it listens on TCP, for callers with keys."""
        host, port = self.runner.addresses[-1][:2]
        return f"http://{host}:{port}"

    async def user(self, name: str, **caps: int) -> str:
        """Make a user and return the key."""
        return (await self.service.accounts.create(types.UserCreate(name=name, **caps))).api_key

    def caller(self, key: str = "", **headers: str) -> aiohttp.ClientSession:
        """A client on TCP that shows `key` with every request; without one, nothing."""
        if key:
            headers["Authorization"] = f"Bearer {key}"
        return aiohttp.ClientSession(self.url, headers=headers)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(path=str(self.settings.socket))

    async def create(self, name: str = "one") -> types.Sandbox:
        return await self.service.create(types.SandboxCreate(name=name), lambda stage: None)

    async def guest(self, ref: str) -> GuestLink:
        """The link into a sandbox, awake by now; what is done with it is not counted as a call."""
        async with self.service.visit(ref, "a test is under way") as visitor:
            return visitor.link


@contextlib.asynccontextmanager
async def serving(
    directory: Path, *flags: str, start: bool = True, engine_type: type[LocalEngine] = LocalEngine
) -> AsyncIterator[Served]:
    """Serve from `directory`; with `start` false, as a daemon that is still recovering. Ends all its machines."""
    settings = settings_in(directory, *flags)
    settings.socket.parent.mkdir(parents=True, exist_ok=True)
    database = await Database.open(settings.database)
    engine = engine_type(directory)
    try:
        async with anyio.create_task_group() as tasks:
            service = Service(settings, "0.0-test", tasks)
            runner = web.AppRunner(make_app(service), handler_cancellation=True, access_log=None, shutdown_timeout=1)
            await runner.setup()
            await web.UnixSite(runner, str(settings.socket)).start()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            gateway = await _gateway(service)
            connector = aiohttp.UnixConnector(str(settings.socket))
            async with aiohttp.ClientSession(connector=connector, base_url="http://bhatti") as http:
                journal = Journal(database)
                if start:
                    await service.start(journal, engine)
                yield Served(settings, service, journal, engine, http, runner, gateway)
            await gateway.cleanup()
            await runner.cleanup()
            await service.stop()
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            for machine in await engine.list():
                await engine.destroy(machine.id)
            await engine.aclose()
            await database.aclose()


async def _gateway(service: Service) -> web.AppRunner:
    """Serve what is published."""
    app = make_gateway(service.published, service.published.limits)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
    service.published.listens(runner.addresses[0][1])
    return runner
