from pathlib import Path

import pytest
from tests.firecracker import running

from bhatti.engines.firecracker import command
from bhatti.engines.firecracker.engine import FirecrackerEngine
from bhatti.engines.firecracker.settings import FirecrackerSettings
from bhatti.engines.qemu.files import MachineFiles
from bhatti.engines.qemu.process import VmProcess
from bhatti.engines.registry import open_engine
from bhatti.errors import MissingDependency
from bhatti.model.sandbox import SandboxSpec, VolumeAttachment

pytestmark = pytest.mark.anyio


@pytest.fixture
def engine(tmp_path: Path) -> FirecrackerEngine:
    return FirecrackerEngine(FirecrackerSettings(state_dir=tmp_path, images_dir=tmp_path, binary="/nonexistent/fc"))


async def test_it_is_opened_by_name_and_says_what_is_missing(engine: FirecrackerEngine) -> None:
    opened = open_engine("firecracker", engine.settings)
    assert isinstance(opened, FirecrackerEngine)
    with pytest.raises(MissingDependency) as refusal:
        async with opened:
            pass
    assert refusal.value.code == "firecracker-missing"


def test_it_says_what_it_finds_without_being_opened(engine: FirecrackerEngine) -> None:
    assert {found.name for found in FirecrackerEngine.examine(engine.settings)} == {"firecracker", "network"}


def test_everything_but_running_without_rights_is_a_capability(engine: FirecrackerEngine) -> None:
    found = engine.capabilities
    assert found.memory_snapshot
    assert found.fork
    assert found.bridge_network
    assert not found.rootless


async def test_a_sandbox_with_volumes_boots(engine: FirecrackerEngine) -> None:
    volumes = (VolumeAttachment(name="data", target="/data"),)
    spec = SandboxSpec(
        id="s1", name="box", image="base", cpus=1, memory_mib=128, disk_mib=64, token="t", volumes=volumes
    )
    assert await engine._find_mold(spec) == (None, "it has volumes")


async def test_only_its_own_machines_are_found(engine: FirecrackerEngine, firecracker: str, tmp_path: Path) -> None:
    directory = tmp_path / "sandboxes" / "s1"
    directory.mkdir(parents=True)
    files = MachineFiles(directory)
    files.log.touch()
    line = command.command_line(firecracker, files, socket="api.sock", log=files.log)
    reader = await VmProcess.spawn(["/usr/bin/tail", "-f", str(files.log)], log=tmp_path / "tail")
    ours = await VmProcess.spawn(line, log=files.console)
    try:
        other = tmp_path / "other"
        other.mkdir()
        async with running(firecracker, other):
            assert engine._processes() == [ours.identity]
    finally:
        await ours.end()
        await reader.end()
    assert engine._processes() == []
