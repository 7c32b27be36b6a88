"""Pausing, stopping and starting machines whose guest only halts; what a real guest makes of it is in conformance."""

import errno
import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from tests.unit.bhatti.engines.qemu.stub import SPEC, nothing_is_left, opened

from bhatti.engines.base import Machine
from bhatti.engines.qemu import migration, snapshot, vm
from bhatti.engines.qemu.engine import QemuEngine
from bhatti.engines.qemu.machine import QemuMachine
from bhatti.engines.qemu.process import identify
from bhatti.engines.qemu.qmp import Monitor
from bhatti.engines.qemu.record import MachineRecord, Phase, read_record, write_record
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import Conflict, EngineFailure, OutOfSpace
from bhatti.model.sandbox import Status, Temperature

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("qemu", "nobody_waits_for_the_agent")]

Damage = Callable[[Path], None]


@pytest.fixture
async def engine(settings: QemuSettings) -> AsyncIterator[QemuEngine]:
    async with opened(settings) as engine:
        yield engine
        if await engine.list():
            await engine.destroy("s1")
        assert await nothing_is_left(settings)


@pytest.fixture
async def made(engine: QemuEngine) -> Machine:
    return await engine.create(SPEC)


def files(engine: QemuEngine) -> Path:
    return engine.settings.sandboxes_dir / "s1"


def set_record(engine: QemuEngine, phase: Phase) -> None:
    """Write down another phase, as if the engine had been killed in it."""
    found = read_record(files(engine))
    assert found is not None
    write_record(files(engine), msgspec.structs.replace(found, phase=phase))


async def test_a_paused_machine_is_warm_and_its_guest_cannot_be_asked(engine: QemuEngine, made: Machine) -> None:
    assert (await engine.pause("s1")).temperature is Temperature.WARM
    assert (await engine.pause("s1")).temperature is Temperature.WARM
    with pytest.raises(Conflict) as caught:
        engine.link("s1")
    assert caught.value.code == "not-running"
    assert (await engine.resume("s1")).temperature is Temperature.HOT
    assert await engine.resume("s1") == made
    assert engine.link("s1") is engine.link("s1")


async def test_what_is_cold_can_neither_be_paused_nor_resumed(engine: QemuEngine, made: Machine) -> None:
    await engine.stop("s1")
    for call in (engine.pause, engine.resume):
        with pytest.raises(Conflict) as caught:
            await call("s1")
        assert caught.value.code == "not-running"


async def test_a_stopped_machine_has_no_process_and_comes_back_from_its_memory(
    engine: QemuEngine, made: Machine
) -> None:
    inode = (files(engine) / "ram").stat().st_ino
    for _ in range(3):
        stopped = await engine.stop("s1")
        assert (stopped.status, stopped.temperature, stopped.pid) == (Status.STOPPED, Temperature.COLD, None)
        started = await engine.start("s1", require_memory=True)
        assert (started.status, started.temperature, started.how) == (Status.RUNNING, Temperature.HOT, "restored")
        assert started.why.startswith("from its memory snapshot of 20")
        assert set(started.timings_ms) == {"snapshot", "network", "qemu", "load", "agent", "total"}
        assert (files(engine) / "ram").stat().st_ino == inode


async def test_a_snapshot_is_spent_before_the_machine_runs(
    engine: QemuEngine, made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.stop("s1")
    seen: list[object] = []
    run = QemuMachine._run

    async def watched(machine: QemuMachine) -> None:
        seen.append(snapshot.read_manifest(files(engine)))
        await run(machine)

    monkeypatch.setattr(QemuMachine, "_run", watched)
    await engine.start("s1")
    assert seen == ["its memory snapshot is spent: it ran on from it"]


@pytest.mark.parametrize(("call", "words"), [("stop", "is stopped: cannot stop"), ("start", "cannot start it")])
async def test_moves_that_the_life_cycle_does_not_know_are_refused(
    engine: QemuEngine, made: Machine, call: str, words: str
) -> None:
    if call == "stop":
        await engine.stop("s1")
    with pytest.raises(Conflict, match=words) as caught:
        await getattr(engine, call)("s1")
    assert caught.value.code == "illegal-transition"


async def test_ensure_hot_wakes_from_every_temperature(engine: QemuEngine, made: Machine) -> None:
    assert await engine.ensure_hot("s1") == made
    await engine.pause("s1")
    assert (await engine.ensure_hot("s1")).pid == made.pid
    await engine.stop("s1")
    woken = await engine.ensure_hot("s1")
    assert (woken.temperature, woken.how) == (Temperature.HOT, "restored")


async def test_a_paused_machine_can_be_stopped_and_comes_back_hot(engine: QemuEngine, made: Machine) -> None:
    await engine.pause("s1")
    await engine.stop("s1")
    assert (await engine.start("s1")).temperature is Temperature.HOT


async def test_a_stop_without_memory_leads_to_a_boot_from_disk(engine: QemuEngine, made: Machine) -> None:
    await engine.pause("s1")
    machine = engine._machines["s1"]
    assert machine._process is not None
    # The guest has no agent that could switch it off: somebody else ends it.
    machine._process.on_death(lambda ended: None)
    os.kill(machine.record.pid, 0)
    machine._link = None

    async def end() -> None:
        os.kill(machine.record.pid, signal.SIGTERM)

    machine._write_back = end  # type: ignore[method-assign]
    stopped = await engine.stop("s1", memory=False)
    assert (stopped.status, stopped.cause) == (Status.STOPPED, None)
    assert not (files(engine) / "ram").exists()
    del machine._write_back
    with pytest.raises(Conflict, match="it was stopped without its memory") as caught:
        await engine.start("s1", require_memory=True)
    assert caught.value.code == "memory-lost"
    started = await engine.start("s1")
    assert (started.how, started.why) == ("disk-boot", "it was stopped without its memory")
    await engine.stop("s1")
    assert (await engine.start("s1")).how == "restored"


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _made_by(**changes: str) -> Damage:
    def change(directory: Path) -> None:
        manifest = snapshot.read_manifest(directory)
        assert isinstance(manifest, snapshot.Manifest)
        maker = msgspec.structs.replace(manifest.maker, **changes)
        snapshot.write_manifest(directory, msgspec.structs.replace(manifest, maker=maker))

    return change


DAMAGES: dict[str, tuple[Damage, str]] = {
    "state truncated": (lambda at: os.truncate(at / "state", 1000), "has 1000 bytes instead of"),
    "state flipped": (lambda at: _flip(at / "state"), "checksum"),
    "state missing": (lambda at: (at / "state").unlink(), "No such file"),
    "memory missing": (lambda at: (at / "ram").unlink(), "No such file"),
    "memory written to": (lambda at: os.utime(at / "ram"), "was changed since"),
    "disk written to": (lambda at: os.utime(at / "layer.ext4"), "was changed since"),
    "manifest cut": (lambda at: os.truncate(at / snapshot.MANIFEST_FILE, 40), "damaged"),
    "manifest missing": (lambda at: (at / snapshot.MANIFEST_FILE).unlink(), "has no memory snapshot"),
    "other version": (_made_by(version="6.0.0"), "version 6.0.0"),
    "other processor": (_made_by(processor="another"), "processor another"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES.keys())
async def test_a_snapshot_that_does_not_fit_is_refused_or_leads_to_a_labelled_boot_from_disk(
    engine: QemuEngine, made: Machine, damage: Damage, words: str
) -> None:
    await engine.stop("s1")
    damage(files(engine))
    report = await engine.verify_snapshot("s1")
    assert not report.usable
    assert words in report.detail
    with pytest.raises(Conflict, match=words) as caught:
        await engine.start("s1", require_memory=True)
    assert caught.value.code == "memory-lost"
    assert (await engine.status("s1")).status is Status.STOPPED
    started = await engine.start("s1")
    assert started.how == "disk-boot"
    assert words in started.why
    # A fresh machine: its next snapshot is as good as any.
    await engine.stop("s1")
    assert (await engine.start("s1", require_memory=True)).how == "restored"


async def test_a_flipped_bit_in_the_memory_is_found_by_whoever_reads_all_of_it(
    engine: QemuEngine, made: Machine
) -> None:
    await engine.stop("s1")
    assert (await engine.verify_snapshot("s1", content=True)).usable
    memory = files(engine) / "ram"
    before = memory.stat()
    with memory.open("r+b") as file:
        file.seek(1 << 20)  # where the guest's code is
        found = file.read(1)[0]
        file.seek(1 << 20)
        file.write(bytes([found ^ 4]))
    os.utime(memory, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (await engine.verify_snapshot("s1")).usable
    report = await engine.verify_snapshot("s1", content=True)
    assert not report.usable
    assert "memory file" in report.detail
    assert "checksum" in report.detail
    memory.unlink()
    assert (await engine.start("s1")).how == "disk-boot"


async def test_a_checksum_that_nobody_waited_for_is_given_up_by_a_start(engine: QemuEngine, made: Machine) -> None:
    for _ in range(3):
        await engine.stop("s1")
        assert (await engine.start("s1", require_memory=True)).how == "restored"
        assert not (files(engine) / snapshot.SUM_FILE).exists()
    await engine.stop("s1")
    assert (await engine.verify_snapshot("s1", content=True)).usable
    assert (files(engine) / snapshot.SUM_FILE).exists()


async def test_a_qemu_killed_while_it_saves_has_failed_and_boots_from_disk(
    engine: QemuEngine, made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made.pid is not None
    save = migration.save_state

    async def killed(monitor: Monitor, path: Path, *, with_memory: bool) -> None:
        os.kill(made.pid or 0, signal.SIGKILL)
        await save(monitor, path, with_memory=with_memory)

    monkeypatch.setattr(migration, "save_state", killed)
    with pytest.raises(EngineFailure) as caught:
        await engine.stop("s1")
    assert caught.value.code == "died-stopping"
    dead = await engine.status("s1")
    assert dead.status is Status.FAILED
    assert dead.cause is not None
    assert dead.cause.kind == "killed"
    with pytest.raises(Conflict):
        await engine.ensure_hot("s1")
    machine = engine._machines["s1"]
    old, monitor = machine._link, machine._monitor
    assert old is not None
    assert monitor is not None
    started = await engine.start("s1")
    # What led to the dead one is closed, not forgotten.
    assert machine._link is not old
    assert old._pool._closed
    assert monitor.closed
    assert started.how == "disk-boot"
    assert "it had died (qemu was killed by SIGKILL)" in started.why


async def test_a_qemu_killed_while_it_is_paused_has_failed_and_boots_from_disk(
    engine: QemuEngine, made: Machine
) -> None:
    await engine.pause("s1")
    process = engine._machines["s1"]._process
    assert process is not None
    os.kill(process.identity.pid, signal.SIGKILL)
    await process.wait()
    dead = await engine.status("s1")
    assert (dead.status, dead.temperature) == (Status.FAILED, Temperature.COLD)
    assert dead.cause is not None
    assert "SIGKILL" in dead.cause.detail
    with pytest.raises(Conflict) as caught:
        await engine.resume("s1")
    assert caught.value.code == "not-running"
    started = await engine.start("s1")
    assert (started.how, started.temperature) == ("disk-boot", Temperature.HOT)


async def test_a_qemu_killed_while_it_loads_leads_to_a_boot_from_disk(
    engine: QemuEngine, made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.stop("s1")
    load = migration.load_state

    async def killed(monitor: Monitor, path: Path, *, with_memory: bool) -> None:
        os.kill(engine._machines["s1"].record.pid, signal.SIGKILL)
        await load(monitor, path, with_memory=with_memory)

    monkeypatch.setattr(migration, "load_state", killed)
    with pytest.raises(Conflict, match="could not be loaded"):
        await engine.start("s1", require_memory=True)
    assert (await engine.status("s1")).status is Status.STOPPED
    started = await engine.start("s1")
    assert started.how == "disk-boot"
    assert "killed by SIGKILL" in started.why


async def test_a_full_disk_leaves_the_machine_running(engine: QemuEngine, made: Machine) -> None:
    assert made.pid is not None
    limits = resource.prlimit(made.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(made.pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
    with pytest.raises(EngineFailure) as caught:
        await engine.stop("s1")
    assert caught.value.code == "save-failed"
    assert await engine.status("s1") == made
    resource.prlimit(made.pid, resource.RLIMIT_FSIZE, limits)
    assert (await engine.stop("s1")).status is Status.STOPPED


@pytest.mark.parametrize("step", ["keep_room", "discard"])
async def test_a_disk_that_is_full_in_the_middle_of_a_stop_leaves_the_machine_running(
    engine: QemuEngine, made: Machine, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(directory: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patches:
        patches.setattr(snapshot, step, full)
        with pytest.raises(OutOfSpace):
            await engine.stop("s1")
    assert await engine.status("s1") == made
    assert engine.link("s1") is engine._machines["s1"]._link
    assert (await engine.stop("s1")).status is Status.STOPPED
    assert not (files(engine) / snapshot.ROOM_FILE).exists()


@pytest.mark.parametrize("phase", [Phase.STOPPING, Phase.STOPPED])
async def test_a_record_that_cannot_be_written_does_not_change_what_is_so(
    engine: QemuEngine, made: Machine, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    def write(directory: Path, record: MachineRecord) -> None:
        if record.phase is phase:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_record(directory, record)

    with monkeypatch.context() as patches:
        patches.setattr(vm, "write_record", write)
        if phase is Phase.STOPPING:
            with pytest.raises(OutOfSpace):
                await engine.stop("s1")
            assert await engine.status("s1") == made
            assert engine.link("s1") is engine._machines["s1"]._link
        else:
            assert (await engine.stop("s1")).status is Status.STOPPED
    if phase is Phase.STOPPED:
        assert (await engine.start("s1", require_memory=True)).how == "restored"


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RESTORED, Phase.RUNNING])
async def test_a_start_on_a_full_disk_keeps_the_memory(
    engine: QemuEngine, made: Machine, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    await engine.stop("s1")

    def write(directory: Path, record: MachineRecord) -> None:
        if record.phase is phase:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_record(directory, record)

    with monkeypatch.context() as patches:
        patches.setattr(vm, "write_record", write)
        if phase is Phase.RUNNING:  # its snapshot is spent: it has to run on
            assert (await engine.start("s1", require_memory=True)).how == "restored"
            assert (await engine.status("s1")).status is Status.RUNNING
            return
        with pytest.raises(OutOfSpace):
            await engine.start("s1", require_memory=True)
        assert (await engine.status("s1")).status is Status.STOPPED
    assert (await engine.start("s1", require_memory=True)).how == "restored"


async def test_a_memory_that_cannot_be_kept_leaves_a_stopped_machine_that_says_so(
    engine: QemuEngine, made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(directory: Path, manifest: snapshot.Manifest) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patches:
        patches.setattr(snapshot, "write_manifest", broken)
        with pytest.raises(OSError, match="Input/output error"):
            await engine.stop("s1")
    assert (await engine.status("s1")).status is Status.STOPPED
    started = await engine.start("s1")
    assert (started.how, started.why) == ("disk-boot", "its memory could not be kept: Input/output error")


async def test_a_probe_loads_the_snapshot_and_changes_nothing(engine: QemuEngine, made: Machine) -> None:
    with pytest.raises(Conflict):
        await engine.verify_snapshot("s1")
    await engine.stop("s1")
    await engine.verify_snapshot("s1", content=True)
    before = sorted(path.name for path in files(engine).iterdir())
    report = await engine.verify_snapshot("s1", probe=True)
    assert (report.usable, report.probed) == (True, True)
    assert report.size_bytes > 0
    assert sorted(path.name for path in files(engine).iterdir()) == before
    assert (await engine.start("s1", require_memory=True)).how == "restored"


class TestAdoption:
    """The engine is gone in the middle of something; the next one finds the machine."""

    @pytest.fixture
    async def found(self, engine: QemuEngine, made: Machine) -> Callable[[Phase], Awaitable[Machine]]:
        """Let the engine forget its machine and find it again, with the record saying another phase."""

        async def adopt(phase: Phase) -> Machine:
            for machine in engine._machines.values():
                await machine.aclose()
            engine._machines.clear()
            set_record(engine, phase)
            (adopted,) = await engine.adopt()
            return adopted

        return adopt

    async def test_a_stopped_machine_is_stopped_and_starts_from_its_memory(
        self, engine: QemuEngine, found: Callable[[Phase], Awaitable[Machine]]
    ) -> None:
        await engine.stop("s1")
        assert (await found(Phase.STOPPED)).status is Status.STOPPED
        assert (await engine.start("s1")).how == "restored"

    async def test_a_warm_machine_is_warm(
        self, engine: QemuEngine, found: Callable[[Phase], Awaitable[Machine]]
    ) -> None:
        await engine.pause("s1")
        assert (await found(Phase.RUNNING)).temperature is Temperature.WARM
        assert (await engine.resume("s1")).temperature is Temperature.HOT

    async def test_a_stop_that_had_begun_is_undone(
        self, engine: QemuEngine, made: Machine, found: Callable[[Phase], Awaitable[Machine]]
    ) -> None:
        await engine.pause("s1")
        assert await found(Phase.STOPPING) == made

    async def test_a_stop_that_was_complete_but_for_its_record_counts(
        self, engine: QemuEngine, found: Callable[[Phase], Awaitable[Machine]]
    ) -> None:
        await engine.stop("s1")
        assert (await found(Phase.STOPPING)).status is Status.STOPPED
        assert (await engine.start("s1")).how == "restored"

    async def test_a_stop_without_its_manifest_has_lost_the_memory_and_says_so(
        self, engine: QemuEngine, found: Callable[[Phase], Awaitable[Machine]]
    ) -> None:
        await engine.stop("s1")
        (files(engine) / snapshot.MANIFEST_FILE).unlink()
        assert (await found(Phase.STOPPING)).status is Status.STOPPED
        started = await engine.start("s1")
        assert (started.how, started.why) == ("disk-boot", "it has no memory snapshot")

    async def test_a_start_before_the_snapshot_was_spent_is_undone(
        self, engine: QemuEngine, found: Callable[[Phase], Awaitable[Machine]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await engine.stop("s1")
        pid = await self.cut_off_before(engine, "spend", monkeypatch)
        assert (await found(Phase.STARTING)).status is Status.STOPPED
        assert identify(pid) is None
        assert (await engine.start("s1")).how == "restored"

    @pytest.mark.parametrize("step", ["spend", "run"])
    async def test_a_start_after_that_is_finished(
        self,
        engine: QemuEngine,
        found: Callable[[Phase], Awaitable[Machine]],
        monkeypatch: pytest.MonkeyPatch,
        step: str,
    ) -> None:
        await engine.stop("s1")
        pid = await self.cut_off_before(engine, step, monkeypatch)
        adopted = await found(Phase.RESTORED)
        assert (adopted.status, adopted.temperature, adopted.pid) == (Status.RUNNING, Temperature.HOT, pid)
        assert "spent" in str(snapshot.read_manifest(files(engine)))

    async def cut_off_before(self, engine: QemuEngine, step: str, monkeypatch: pytest.MonkeyPatch) -> int:
        """Start the machine and be gone before `step`; its process lives on. Return its pid."""

        class Gone(BaseException):
            pass

        def gone(*arguments: object) -> None:
            raise Gone

        with monkeypatch.context() as patches:
            if step == "spend":
                patches.setattr(snapshot, "spend", gone)
            else:
                patches.setattr(QemuMachine, "_run", gone)
            with pytest.raises(Gone):
                await engine.start("s1")
        return engine._machines["s1"].record.pid
