import dataclasses
import os
import re
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import msgspec
import pytest
from tests.conformance.leftovers import traces_of
from tests.firecracker import running
from tests.unit.bhatti.engines.firecracker.stub import GAP, counting_guest, opened, settings_of
from tests.unit.bhatti.engines.qemu.stub import SPEC, nothing_is_left

from bhatti.engines.firecracker import command, machine
from bhatti.engines.firecracker.engine import FirecrackerEngine
from bhatti.engines.firecracker.settings import FirecrackerSettings
from bhatti.engines.qemu import snapshot
from bhatti.engines.qemu.files import MachineFiles
from bhatti.engines.qemu.machine import QemuMachine
from bhatti.engines.qemu.process import VmProcess
from bhatti.engines.registry import open_engine
from bhatti.errors import Conflict, EngineFailure, MissingDependency, OutOfSpace, Unavailable
from bhatti.model.sandbox import SandboxSpec, Status, Temperature, VolumeAttachment

pytestmark = pytest.mark.anyio


DISK_MIB = 256
"""Room for one machine of `SPEC`, its memory and what `check_space` wants beside."""

LARGE_MIB = 3072 + 64
"""The least that a machine can have on both sides of the gap, and some."""

SHARED_MEMORY = Path("/dev/shm")


def free_bytes(directory: Path) -> int:
    stat = os.statvfs(directory)
    return stat.f_bavail * stat.f_frsize


@pytest.fixture
async def halting(tmp_path: Path) -> AsyncIterator[FirecrackerEngine]:
    """An engine that runs the real Firecracker, around guests that only halt."""
    settings = settings_of(tmp_path)
    async with opened(settings) as engine:
        yield engine
    assert await nothing_is_left(settings)


@contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


@contextmanager
def nearly_full(directory: Path, left_mib: int) -> Iterator[None]:
    filler = directory / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free_bytes(directory) - (left_mib << 20))
    try:
        yield
    finally:
        filler.unlink()


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


async def test_a_machine_in_a_jail_is_forked_while_it_runs_and_goes_back_to_a_checkpoint(
    halting: FirecrackerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(machine: QemuMachine, *_: object) -> None:
        return None

    monkeypatch.setattr(QemuMachine, "_become_itself", at_once)
    made = await halting.create(SPEC)
    forked = await halting.fork("s1", msgspec.structs.replace(SPEC, id="s2", name="other"))
    assert (forked.how, forked.status) == ("forked", Status.RUNNING)
    assert (await halting.status("s1")).pid == made.pid
    await halting.checkpoint("s1", "before")
    for name in ("s1", "s2"):
        await halting.stop(name)
        assert (await halting.start(name, require_memory=True)).how == "restored"
    assert (await halting.restore_checkpoint("s1", "before")).how == "restored"
    third = msgspec.structs.replace(SPEC, id="s3", name="third")
    assert (await halting.fork("s1", third, checkpoint="before")).how == "forked"
    passing = [
        path for path in halting.settings.sandboxes_dir.glob("*/*") if path.name.startswith(("copied", "brought"))
    ]
    assert passing == []


async def test_on_a_full_disk_a_sandbox_stays_awake_and_what_was_written_is_freed(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    state = settings.state_dir
    with small_disk(state):
        async with opened(settings) as engine:
            made = await engine.create(SPEC)
            (settings.sandboxes_dir / "s1" / "checkpoints").mkdir()
            before = await traces_of(settings)
            with nearly_full(state, 40):
                with pytest.raises(OutOfSpace):
                    await engine.stop("s1")
                with pytest.raises(OutOfSpace):
                    await engine.checkpoint("s1", "before")
                found = await engine.status("s1")
                assert (found.pid, found.temperature) == (made.pid, Temperature.HOT)
            assert await traces_of(settings) == before
            await engine.stop("s1")
            again = await engine.start("s1", require_memory=True)
            with nearly_full(state, 0):
                with pytest.raises(OutOfSpace):
                    await engine.stop("s1")
                assert (await engine.status("s1")).pid == again.pid
            await engine.stop("s1")
            assert (await engine.start("s1", require_memory=True)).how == "restored"
        assert await nothing_is_left(settings)


@pytest.mark.parametrize("what", ["version", "processor"])
async def test_a_snapshot_of_another_version_or_processor_is_refused_by_name_and_kept(
    halting: FirecrackerEngine, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    await halting.create(SPEC)
    await halting.stop("s1")
    ours = halting._machines["s1"]._host
    with monkeypatch.context() as patches:
        if what == "version":
            other = dataclasses.replace(ours, version="9.9.9", snapshot_format="99.0.0")
            patches.setattr(halting._machines["s1"], "_host", other)
        else:
            patches.setattr(snapshot, "_host_processor", lambda: "9.9.9")
        with pytest.raises(Conflict, match=f"was taken with {what} .*, here it is 9.9.9") as refusal:
            await halting.start("s1", require_memory=True)
        assert refusal.value.code == "memory-lost"
        assert not (await halting.verify_snapshot("s1")).usable
    assert (await halting.start("s1", require_memory=True)).how == "restored"


async def test_a_program_that_makes_no_socket_is_given_up_and_ended(
    halting: FirecrackerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "firecracker"
    program.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    program.chmod(0o755)
    settings = halting.host.settings
    assert isinstance(settings, FirecrackerSettings)
    settings = dataclasses.replace(settings, jailer="")
    monkeypatch.setattr(machine, "MONITOR_TIMEOUT_S", 0.3)
    spawned: list[VmProcess] = []
    spawn = VmProcess.spawn

    async def watched(*arguments: object, **options: object) -> VmProcess:
        spawned.append(await spawn(*arguments, **options))  # type: ignore[arg-type]  # whatever it is called with
        return spawned[-1]

    monkeypatch.setattr(VmProcess, "spawn", watched)
    halting._opened = dataclasses.replace(halting.host, binary=str(program), settings=settings)
    with pytest.raises(Unavailable, match="made no API socket") as silence:
        await halting.create(SPEC)
    assert silence.value.code == "firecracker-silent"
    assert [process.exit is not None for process in spawned] == [True]


@pytest.mark.parametrize("gone", [True, False])
async def test_a_program_that_was_taken_away_meanwhile_is_named(
    halting: FirecrackerEngine, tmp_path: Path, gone: bool
) -> None:
    program = tmp_path / "firecracker"
    if not gone:
        program.write_bytes(b"nonsense")
        program.chmod(0o644)
    halting._opened = dataclasses.replace(halting.host, binary=str(program))
    with pytest.raises(EngineFailure, match=r"died while it booted: .*(No such file|Permission denied)") as failure:
        await halting.create(SPEC)
    assert failure.value.code == "boot-failed"
    assert await halting.list() == []


@pytest.fixture
def roomy() -> Iterator[Path]:
    """A directory in memory, with room for a machine beyond the gap and its snapshot."""
    if not SHARED_MEMORY.is_dir() or free_bytes(SHARED_MEMORY) >> 20 < LARGE_MIB + 1024:
        pytest.skip(f"needs {LARGE_MIB + 1024} MiB in {SHARED_MEMORY}")
    available = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text())
    if available is None or int(available[1]) >> 10 < 2 * LARGE_MIB:
        pytest.skip(f"needs {2 * LARGE_MIB} MiB of memory")
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY, prefix="bhatti-test-") as directory:
        yield Path(directory)


@pytest.mark.timeout(120)
async def test_memory_on_both_sides_of_the_gap_is_saved_and_comes_back_each_time(roomy: Path) -> None:
    settings = settings_of(roomy)
    files = MachineFiles(settings.sandboxes_dir / "s1")
    # File and gap: memory behind the gap comes right behind that below it.
    places = (GAP - 4096, GAP, (LARGE_MIB << 20) - 4096)
    async with opened(settings, counting_guest(LARGE_MIB)) as engine:
        await engine.create(msgspec.structs.replace(SPEC, memory_mib=LARGE_MIB))
        before = 0
        for generation in range(3):
            assert engine._machines["s1"].record.tracked is (generation > 0)
            said = files.console.stat().st_size
            with anyio.fail_after(60):
                while files.console.stat().st_size == said:  # noqa: ASYNC110  # nobody tells of what a console says
                    await anyio.sleep(0.01)
            await engine.stop("s1")
            with files.memory.open("rb") as memory:
                counts = [struct.unpack("<Q", os.pread(memory.fileno(), 8, place))[0] for place in places]
            assert counts[0] >= counts[1] >= counts[2] >= counts[0] - 1
            assert counts[2] > before
            before = counts[0]
            assert (await engine.start("s1", require_memory=True)).how == "restored"
    assert await nothing_is_left(settings)
