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
from tests.conformance.leftovers import traces_of

from bhatti.engines.base import Machine
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.engines.registry import open_engine
from bhatti.model.sandbox import SandboxSpec

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(90)]

OWNER = Path(__file__).with_name("owner.py")


@pytest.fixture
def own_settings(tmp_path: Path, images_dir: Path) -> QemuSettings:
    """A state directory for this test alone, whose owner will be killed."""
    return QemuSettings(state_dir=tmp_path / "state", images_dir=images_dir)


@pytest.fixture
async def nothing_of_it_is_left(own_settings: QemuSettings) -> AsyncIterator[None]:
    yield
    assert str(await traces_of(own_settings.state_dir)) == "nothing"


async def start_owner(engine_name: str, settings: QemuSettings, spec: SandboxSpec) -> Process:
    text = msgspec.json.encode(spec).decode()
    command = [sys.executable, str(OWNER), engine_name, str(settings.state_dir), str(settings.images_dir), text]
    return await anyio.open_process(command, stdout=subprocess.PIPE, stderr=None)


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
async def test_a_sandbox_outlives_the_death_of_its_owner(engine_name: str, own_settings: QemuSettings) -> None:
    spec = new_spec("orphan")
    owner = await start_owner(engine_name, own_settings, spec)
    await stage_begins(owner, b"agent")
    machine = msgspec.json.decode(await next_line(owner), type=Machine)
    await kill(owner)
    async with open_engine(engine_name, own_settings) as engine:
        assert await engine.adopt() == [machine]
        result = await engine.link(spec.id).exec(["cat", "/proc/sys/kernel/hostname"])
        assert result.stdout == b"orphan\n"
        await engine.destroy(spec.id)


@pytest.mark.usefixtures("nothing_of_it_is_left")
async def test_a_create_whose_owner_was_killed_is_undone(engine_name: str, own_settings: QemuSettings) -> None:
    owner = await start_owner(engine_name, own_settings, new_spec("half"))
    await stage_begins(owner, b"agent")
    assert (await traces_of(own_settings.state_dir)).processes
    await kill(owner)
    async with open_engine(engine_name, own_settings) as engine:
        assert await engine.adopt() == []
