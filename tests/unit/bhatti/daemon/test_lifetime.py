import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
import anyio
import pytest
from anyio import to_thread
from tests.engines.local import LocalEngine
from tests.serving import settings_in

from bhatti.daemon import engine_choice, lifetime
from bhatti.daemon.lifetime import held, live
from bhatti.daemon.lock import holder
from bhatti.daemon.settings import Settings
from bhatti.errors import BhattiError, Conflict, InvalidRequest, MissingDependency, Unavailable
from bhatti.operations import table, types
from bhatti.operations.operation import Operation
from bhatti.sdk.client import Client
from bhatti.sdk.endpoint import Endpoint
from bhatti.server.call import EVENT_STREAM

pytestmark = pytest.mark.anyio


class Slow(LocalEngine):
    """Takes until it is let to be entered."""

    entering = asyncio.Event()

    async def __aenter__(self) -> "Slow":
        await Slow.entering.wait()
        return self


class Missing(LocalEngine):
    """Lacks a program."""

    async def __aenter__(self) -> "Missing":
        raise MissingDependency("the program qemu is not installed", hint="apt install qemu", code="qemu-missing")


@asynccontextmanager
async def living(settings: Settings, *, wait: bool = True) -> AsyncIterator[None]:
    """A daemon in this process for the block; ended as one is, by SIGTERM."""
    ready = anyio.Event()
    with held(settings) as listeners:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live, settings, listeners, ready.set)
            if wait:
                await ready.wait()
            yield
            signal.raise_signal(signal.SIGTERM)


async def ask(settings: Settings, operation: Operation[None, types.Health] = table.HEALTH) -> types.Health:
    client = Client(Endpoint(path=str(settings.socket)))
    try:
        return await to_thread.run_sync(client.call, operation)
    finally:
        client.close()


async def test_a_daemon_serves_and_leaves_nothing_but_its_state(directory: Path) -> None:
    settings = settings_in(directory)
    async with living(settings):
        assert (await ask(settings)).status == "ok"
        assert holder(settings.lock) == os.getpid()
        assert settings.socket.stat().st_mode & 0o777 == 0o600
    assert holder(settings.lock) is None
    assert not settings.socket.exists()
    assert settings.database.exists()


async def test_health_is_answered_before_the_engine_is_ready(directory: Path) -> None:
    Slow.entering = asyncio.Event()
    settings = settings_in(directory, "engine=tests.unit.bhatti.daemon.test_lifetime:Slow")
    async with living(settings, wait=False):
        assert (await ask(settings)).status == "starting"
        with pytest.raises(Unavailable) as caught:
            await ask(settings, table.SANDBOX_LIST)  # type: ignore[arg-type]
        assert caught.value.code == "starting"
        Slow.entering.set()
        while (await ask(settings)).status != "ok":
            await anyio.lowlevel.checkpoint()


async def test_a_daemon_can_be_stopped_while_it_starts(directory: Path) -> None:
    Slow.entering = asyncio.Event()
    settings = settings_in(directory, "engine=tests.unit.bhatti.daemon.test_lifetime:Slow")
    async with living(settings, wait=False):
        assert (await ask(settings)).status == "starting"
    assert not settings.socket.exists()


async def test_who_does_not_finish_a_request_or_sends_none_is_let_go(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifetime, "KEEPALIVE_S", 1.0)
    settings = settings_in(directory)
    whole = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"

    async def converse(said: bytes) -> None:
        async with await anyio.connect_unix(settings.socket) as stream:
            await stream.send(said)
            heard = b"".join([piece async for piece in stream])  # to the end, which comes
        assert heard.count(b"HTTP/1.1 200 OK") == (len(said) >= len(whole))

    async with living(settings):
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for said in (b"", whole[:20], whole, whole + whole[:20]):
                    tasks.start_soon(converse, said)
        assert (await ask(settings)).status == "ok"


async def test_without_a_grace_what_is_under_way_is_ended(directory: Path) -> None:
    settings = settings_in(directory, "drain_s=0", "stop_all=true")
    connector = aiohttp.UnixConnector(str(settings.socket))
    with anyio.fail_after(60):
        async with aiohttp.ClientSession(connector=connector, base_url="http://b") as http:
            async with living(settings):
                async with http.post("/sandboxes", json={"name": "one"}) as response:
                    assert response.status == 201
                command = {"cmd": ["sh", "-c", "echo up; sleep 600"]}
                running = await http.post("/sandboxes/one/exec", json=command, headers={"Accept": EVENT_STREAM})
                assert json.loads(await running.content.readline())["data"] == "up\n"
            with contextlib.suppress(aiohttp.ClientError):  # an answer that breaks off
                assert b"exit" not in await running.read()


async def refused(settings: Settings) -> BhattiError:
    """Return what keeps a daemon from starting."""

    async def attempt() -> None:
        with held(settings) as listeners:
            await live(settings, listeners, lambda: None)

    with pytest.raises((BhattiError, ExceptionGroup)) as caught:
        await attempt()
    error: BaseException = caught.value
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, BhattiError)
    return error


async def test_a_second_daemon_is_refused(directory: Path) -> None:
    settings = settings_in(directory)
    async with living(settings):
        error = await refused(settings)
        assert isinstance(error, Conflict)
        assert error.code == "already-running"
        assert (await ask(settings)).status == "ok"


async def test_an_engine_that_lacks_something_ends_the_start_and_leaves_nothing(directory: Path) -> None:
    settings = settings_in(directory, "engine=tests.unit.bhatti.daemon.test_lifetime:Missing")
    error = await refused(settings)
    assert (error.code, error.hint) == ("qemu-missing", "apt install qemu")
    assert not settings.socket.exists()
    assert holder(settings.lock) is None


async def test_an_engine_that_did_not_make_the_sandboxes_ends_the_start_and_touches_none(directory: Path) -> None:
    settings = settings_in(directory)
    async with living(settings):
        await ask(settings)
    (Path(settings.state_dir) / "sandboxes" / "s1").mkdir(parents=True)
    engine_choice.record(settings, "qemu")
    error = await refused(settings)
    assert error.code == "other-engine"
    assert (Path(settings.state_dir) / "engine").read_text() == "qemu\n"
    assert holder(settings.lock) is None


async def test_a_taken_socket_ends_the_start(directory: Path) -> None:
    settings = settings_in(directory)
    settings.socket.parent.mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as other:
        other.bind(str(settings.socket))
        other.listen()
        assert (await refused(settings)).code == "socket-taken"


async def test_a_runtime_directory_that_is_too_deep_ends_the_start(directory: Path) -> None:
    error = await refused(settings_in(directory, f"runtime_dir={directory}/{'x' * 100}"))
    assert isinstance(error, InvalidRequest)
    assert error.code == "socket-path-too-long"


async def test_a_state_directory_that_cannot_be_made_ends_the_start(directory: Path) -> None:
    (directory / "file").write_text("")
    error = await refused(settings_in(directory / "file"))
    assert error.code == "state-dir-unusable"


async def test_a_damaged_store_ends_the_start(directory: Path) -> None:
    settings = settings_in(directory)
    settings.database.write_bytes(b"rubbish" * 1000)
    assert (await refused(settings)).code == "store-corrupt"
