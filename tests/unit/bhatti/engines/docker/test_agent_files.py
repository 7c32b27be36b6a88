import os
import subprocess
from pathlib import Path

import anyio
import pytest

from bhatti.engines.docker.agent_files import agent_version, sweep_agents, unpack_agent
from bhatti.errors import CorruptData
from bhatti.images import agent_drive
from bhatti.images.store import BootFiles, ImageStore


@pytest.fixture(scope="module")
def boot(images_dir: Path) -> BootFiles:
    return ImageStore(images_dir).boot_files("base")


def test_the_unpacked_agent_runs(boot: BootFiles, tmp_path: Path) -> None:
    agent = unpack_agent(boot, tmp_path / "agents")
    assert agent.name == agent_version(boot)
    script = "import lohar.container, lohar; print(lohar.__file__)"
    command = [*agent_drive.interpreter(agent), "-I", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(agent))


def test_everybody_may_read_it(boot: BootFiles, tmp_path: Path) -> None:
    agent = unpack_agent(boot, tmp_path / "agents")
    for path in (agent, *agent.rglob("*")):
        assert path.stat().st_mode & 0o444 == 0o444, path


def test_it_is_unpacked_once(boot: BootFiles, tmp_path: Path) -> None:
    first = unpack_agent(boot, tmp_path / "agents")
    (first / "mark").touch()
    assert unpack_agent(boot, tmp_path / "agents") == first
    assert (first / "mark").exists()
    assert [path.name for path in (tmp_path / "agents").iterdir()] == [first.name]


@pytest.mark.anyio
async def test_several_may_unpack_it_at_once(boot: BootFiles, tmp_path: Path) -> None:
    found: list[Path] = []

    async def unpack() -> None:
        found.append(await anyio.to_thread.run_sync(unpack_agent, boot, tmp_path / "agents"))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(unpack)
    assert len(set(found)) == 1
    assert await anyio.to_thread.run_sync(os.listdir, tmp_path / "agents") == [found[0].name]


def test_a_damaged_drive_leaves_nothing(boot: BootFiles, tmp_path: Path) -> None:
    (tmp_path / "agent.ext4").write_bytes(boot.agent.read_bytes()[: 8 << 20])
    damaged = BootFiles(
        kernel=boot.kernel,
        initramfs=boot.initramfs,
        agent=tmp_path / "agent.ext4",
        base=boot.base,
        digests=boot.digests,
        image=boot.image,
    )
    with pytest.raises(CorruptData):
        unpack_agent(damaged, tmp_path / "agents")
    assert list((tmp_path / "agents").iterdir()) == []


def test_agents_that_nobody_uses_are_swept(tmp_path: Path) -> None:
    for name in ("old", "used", ".new-half"):
        (tmp_path / name / "lib").mkdir(parents=True)
    assert sweep_agents(tmp_path, {"used"}) == [".new-half", "old"]
    assert [path.name for path in tmp_path.iterdir()] == ["used"]
    assert sweep_agents(tmp_path / "nonexistent", set()) == []
