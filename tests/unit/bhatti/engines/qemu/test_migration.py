"""States saved and loaded by real QEMU, without a guest that would use them."""

import dataclasses
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.unit.bhatti.engines.qemu.stub import HANG, stub_guest

from bhatti.engines.qemu import migration
from bhatti.engines.qemu.command import MONITOR_FILE, Drive, Hardware, UserCard, command_line
from bhatti.engines.qemu.network import USER_ADDRESS
from bhatti.engines.qemu.process import VmProcess
from bhatti.engines.qemu.qmp import Monitor, listen
from bhatti.errors import BhattiError, EngineFailure

pytestmark = pytest.mark.anyio


@pytest.fixture
def hardware(tmp_path: Path, qemu: str) -> Hardware:
    boot = stub_guest(tmp_path, HANG)
    (tmp_path / "layer").write_bytes(bytes(1 << 20))
    return Hardware(
        binary=qemu,
        name="bhatti-m",
        accelerator="tcg",
        cpus=1,
        memory_mib=128,
        memory_file=tmp_path / "ram",
        kernel=boot.kernel,
        initramfs=boot.initramfs,
        kernel_arguments="",
        drives=(Drive(boot.base, True), Drive(tmp_path / "layer", False)),
        card=UserCard(USER_ADDRESS, "06:b4:0a:00:02:0f", ()),
        console=tmp_path / "console.log",
    )


@asynccontextmanager
async def running(hardware: Hardware, directory: Path) -> AsyncIterator[tuple[VmProcess, Monitor]]:
    with listen(directory / "qmp.sock") as listener:
        process = await VmProcess.spawn(
            command_line(hardware), log=directory / "qemu.log", inherit={MONITOR_FILE: listener.fileno()}
        )
    try:
        async with await Monitor.connect(directory / "qmp.sock", timeout_s=20) as monitor:
            yield process, monitor
    finally:
        await process.end()


async def status(monitor: Monitor) -> str:
    answer = await monitor.execute("query-status")
    assert isinstance(answer, dict)
    return str(answer["status"])


async def saved(hardware: Hardware, directory: Path, *, with_memory: bool) -> Path:
    async with running(hardware, directory) as (_, monitor):
        await monitor.execute("cont")
        await monitor.execute("stop")
        await migration.save_state(monitor, directory / "state", with_memory=with_memory)
    return directory / "state"


async def test_a_saved_machine_may_run_on_at_once(hardware: Hardware, tmp_path: Path) -> None:
    async with running(hardware, tmp_path) as (_, monitor):
        for _ in range(10):
            await monitor.execute("cont")
            await monitor.execute("stop")
            await migration.save_state(monitor, tmp_path / "state", with_memory=False)
        await monitor.execute("cont")
        assert await status(monitor) == "running"


@pytest.mark.parametrize("with_memory", [False, True])
async def test_a_saved_state_is_loaded_stopped_and_runs_on(
    hardware: Hardware, tmp_path: Path, with_memory: bool
) -> None:
    state = await saved(hardware, tmp_path, with_memory=with_memory)
    assert state.stat().st_mode & 0o777 == 0o600
    if with_memory:
        hardware.memory_file.unlink()
    async with running(dataclasses.replace(hardware, incoming=True), tmp_path) as (_, monitor):
        await migration.load_state(monitor, state, with_memory=with_memory)
        assert await status(monitor) == "paused"
        await monitor.execute("cont")
        assert await status(monitor) == "running"


async def test_a_private_machine_starts_from_the_memory_of_another_and_leaves_it_alone(
    hardware: Hardware, tmp_path: Path
) -> None:
    state = await saved(hardware, tmp_path, with_memory=False)
    before = hardware.memory_file.stat()
    private = dataclasses.replace(hardware, incoming=True, private=True)
    async with running(private, tmp_path) as (_, monitor):
        await migration.load_state(monitor, state, with_memory=False)
        await monitor.execute("cont")
        assert await status(monitor) == "running"
    assert hardware.memory_file.stat().st_mtime_ns == before.st_mtime_ns


async def test_a_state_that_cannot_be_written_is_an_error_and_the_machine_lives(
    hardware: Hardware, tmp_path: Path
) -> None:
    async with running(hardware, tmp_path) as (process, monitor):
        # As on a full disk, every write beyond the first page fails.
        resource.prlimit(process.identity.pid, resource.RLIMIT_FSIZE, (4096, 4096))
        with pytest.raises(EngineFailure) as caught:
            await migration.save_state(monitor, tmp_path / "state", with_memory=False)
        assert caught.value.code == "save-failed"
        await monitor.execute("cont")
        assert await status(monitor) == "running"


async def test_a_truncated_state_is_an_error(hardware: Hardware, tmp_path: Path) -> None:
    state = await saved(hardware, tmp_path, with_memory=False)
    os.truncate(state, state.stat().st_size // 2)
    async with running(dataclasses.replace(hardware, incoming=True), tmp_path) as (_, monitor):
        with pytest.raises(BhattiError):
            await migration.load_state(monitor, state, with_memory=False)


async def test_a_state_that_is_gone_is_not_asked_for(hardware: Hardware, tmp_path: Path) -> None:
    async with running(dataclasses.replace(hardware, incoming=True), tmp_path) as (_, monitor):
        with pytest.raises(FileNotFoundError):
            await migration.load_state(monitor, tmp_path / "nothing", with_memory=False)
