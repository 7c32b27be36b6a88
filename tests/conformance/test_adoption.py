"""The daemon dies, the machines do not: the next engine finds them, or undoes what was half done."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest
from anyio.abc import Process
from tests.conformance.conftest import new_spec
from tests.conformance.engines import Settings, settings_for
from tests.conformance.leftovers import traces_of

from bhatti.engines.base import Machine
from bhatti.engines.docker.settings import DockerSettings
from bhatti.engines.registry import open_engine
from bhatti.model.sandbox import SandboxSpec

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(300)]

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def own_settings(engine_kind: str, tmp_path: Path, images_dir: Path, docker_socket: Path | None) -> Settings:
    """A state directory for this test alone, whose owner will be killed."""
    return settings_for(engine_kind, tmp_path / "state", images_dir, docker_socket)


@pytest.fixture
async def nothing_of_it_is_left(own_settings: Settings) -> AsyncIterator[None]:
    yield
    assert str(await traces_of(own_settings)) == "nothing"


async def start_owner(kind: str, settings: Settings, spec: SandboxSpec, *, halt_at: str = "") -> Process:
    text = msgspec.json.encode(spec).decode()
    docker = str(settings.socket) if isinstance(settings, DockerSettings) else ""
    words = [kind, str(settings.state_dir), str(settings.images_dir), docker, text, halt_at]
    command = [sys.executable, "-m", "tests.conformance.owner", *words]
    return await anyio.open_process(command, stdout=subprocess.PIPE, stderr=None, cwd=CHECKOUT)


async def next_line(process: Process) -> bytes:
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        line += await process.stdout.receive(1)
    return line


async def stage_begins(process: Process, stage: bytes) -> None:
    while await next_line(process) != stage + b"\n":
        pass


async def kill(process: Process) -> None:
    process.kill()
    await process.wait()
    await process.aclose()


@pytest.mark.usefixtures("nothing_of_it_is_left")
async def test_a_sandbox_outlives_the_death_of_its_owner(
    engine_kind: str, engine_name: str, own_settings: Settings
) -> None:
    """And networking, bridge setup (idempotent): the bridge is there already."""
    spec = new_spec("orphan")
    owner = await start_owner(engine_kind, own_settings, spec)
    await stage_begins(owner, b"agent")
    machine = msgspec.json.decode(await next_line(owner), type=Machine)
    await kill(owner)
    async with open_engine(engine_name, own_settings) as engine:
        assert await engine.adopt() == [machine]
        result = await engine.link(spec.id).exec(["cat", "/proc/sys/kernel/hostname"])
        assert result.stdout == b"orphan\n"
        await engine.destroy(spec.id)


@pytest.mark.usefixtures("nothing_of_it_is_left")
async def test_a_create_whose_owner_was_killed_is_undone(
    engine_kind: str, engine_name: str, own_settings: Settings
) -> None:
    owner = await start_owner(engine_kind, own_settings, new_spec("half"), halt_at="agent")
    await stage_begins(owner, b"agent")
    assert (await traces_of(own_settings)).processes
    await kill(owner)
    async with open_engine(engine_name, own_settings) as engine:
        assert await engine.adopt() == []
