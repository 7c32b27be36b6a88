"""One machine whose guest has no agent: what can go wrong with it, and what is left then. Real QEMU each time."""

import asyncio
import dataclasses
import os
import signal

import anyio
import msgspec
import pytest
from tests.unit.bhatti.engines.qemu.stub import (
    SPEAK_AND_FAULT,
    SPEC,
    TRIPLE_FAULT,
    machine_count,
    nothing_is_left,
    opened,
)

from bhatti.engines.qemu.engine import QemuEngine
from bhatti.engines.qemu.process import VmProcess, identify
from bhatti.engines.qemu.record import Phase, write_record
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import (
    BhattiError,
    Conflict,
    EngineFailure,
    GuestTimeout,
    NotFound,
    OutOfSpace,
)
from bhatti.model.sandbox import SandboxSpec, Status, Temperature

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("qemu")]


async def failed_create(engine: QemuEngine, kind: type[BhattiError], **changes: object) -> BhattiError:
    with pytest.raises(kind) as caught:
        await engine.create(msgspec.structs.replace(SPEC, **changes))
    assert machine_count(engine) == 0
    return caught.value


async def test_a_missing_image_is_not_found(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        error = await failed_create(engine, NotFound, image="nothere")
        assert error.code == "image-not-found"
        assert await nothing_is_left(settings)


async def test_a_missing_volume_is_not_found(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        volumes = ({"name": "data", "target": "/data"},)
        wanted = msgspec.convert({**msgspec.to_builtins(SPEC), "volumes": volumes}, SandboxSpec)
        with pytest.raises(NotFound, match="'data'"):
            await engine.create(wanted)
        assert await nothing_is_left(settings)


async def test_a_disk_without_room_for_the_memory_is_out_of_space(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        await failed_create(engine, OutOfSpace, memory_mib=1 << 30)
        assert await nothing_is_left(settings)


async def test_a_guest_that_never_answers_is_given_up_at_the_deadline(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        error = await failed_create(engine, GuestTimeout)
        assert error.code == "boot-timeout"
        assert "within 0.7 s; its console is empty" in error.message
        assert await nothing_is_left(settings)


@pytest.mark.parametrize(
    ("guest", "words"), [(TRIPLE_FAULT, "its console is empty"), (SPEAK_AND_FAULT, "its console ends with: oops")]
)
async def test_a_guest_that_dies_while_it_boots_is_reported_at_once(
    settings: QemuSettings, guest: bytes, words: str
) -> None:
    patient = dataclasses.replace(settings, boot_timeout_s=300)
    async with opened(patient, guest) as engine:
        with anyio.fail_after(60):
            error = await failed_create(engine, EngineFailure)
        assert error.code == "boot-failed"
        assert words in error.message
        assert await nothing_is_left(settings)


async def test_a_qemu_that_does_not_start_is_reported_with_its_own_words(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        # More processors than the machine type has.
        error = await failed_create(engine, EngineFailure, cpus=9999)
        assert error.code == "boot-failed"
        assert "CPUs" in error.message
        assert await nothing_is_left(settings)


@pytest.mark.parametrize("stage", ["network", "config", "layer", "qemu", "agent"])
async def test_a_create_that_is_cancelled_leaves_nothing(settings: QemuSettings, stage: str) -> None:
    patient = dataclasses.replace(settings, boot_timeout_s=300)
    async with opened(patient) as engine:
        with anyio.CancelScope() as scope:
            await engine.create(SPEC, progress=lambda begun: scope.cancel() if begun == stage else None)
        assert scope.cancelled_caught
        assert machine_count(engine) == 0
        assert await nothing_is_left(settings)


async def test_a_qemu_killed_while_its_guest_boots_is_reported_as_killed(settings: QemuSettings) -> None:
    patient = dataclasses.replace(settings, boot_timeout_s=300)
    async with opened(patient) as engine:

        def kill(stage: str) -> None:
            if stage == "agent":
                os.kill(engine._machines["s1"].record.pid, signal.SIGKILL)

        with pytest.raises(EngineFailure, match="killed by SIGKILL"):
            await engine.create(SPEC, progress=kill)
        assert machine_count(engine) == 0
        assert await nothing_is_left(settings)


@pytest.mark.usefixtures("nobody_waits_for_the_agent")
class TestLiving:
    """With a guest that only halts, but lives."""

    async def test_a_machine_is_made_seen_and_destroyed(self, settings: QemuSettings) -> None:
        stages: list[str] = []
        async with opened(settings) as engine:
            made = await engine.create(SPEC, progress=stages.append)
            assert (made.status, made.temperature) == (Status.RUNNING, Temperature.HOT)
            assert made.pid is not None
            assert made.accelerator == "tcg"
            assert stages == ["images", "network", "config", "layer", "qemu", "agent"]
            assert set(made.timings_ms) == {*stages, "total"}
            assert await engine.status("s1") == made
            assert await engine.list() == [made]
            assert engine.console("s1") == ""
            await engine.destroy("s1")
            with pytest.raises(NotFound):
                await engine.destroy("s1")
            assert await nothing_is_left(settings)

    async def test_a_directory_that_is_there_is_not_touched(self, settings: QemuSettings) -> None:
        async with opened(settings) as engine:
            precious = settings.sandboxes_dir / "s1" / "layer.ext4"
            precious.parent.mkdir()
            precious.touch()
            with pytest.raises(Conflict):
                await engine.create(SPEC)
            assert precious.exists()

    async def test_a_machine_that_dies_has_failed_with_its_cause(self, settings: QemuSettings) -> None:
        async with opened(settings) as engine:
            made = await engine.create(SPEC)
            assert made.pid is not None
            told = asyncio.get_running_loop().create_future()
            engine.deaths.listen(told.set_result)
            os.kill(made.pid, signal.SIGKILL)
            async with asyncio.timeout(60):
                assert await told == "s1"
            dead = await engine.status("s1")
            assert (dead.status, dead.temperature, dead.pid) == (Status.FAILED, Temperature.COLD, None)
            assert dead.cause is not None
            assert (dead.cause.kind, dead.cause.detail) == ("killed", "qemu was killed by SIGKILL")
            with pytest.raises(Conflict) as caught:
                engine.link("s1")
            assert caught.value.code == "not-running"
            assert not (settings.sandboxes_dir / "s1" / "ram").exists()
            assert (settings.sandboxes_dir / "s1" / "layer.ext4").exists()
            await engine.destroy("s1")
            assert await nothing_is_left(settings)

    async def test_a_paused_machine_is_warm(self, settings: QemuSettings) -> None:
        async with opened(settings) as engine:
            await engine.create(SPEC)
            monitor = engine._machines["s1"]._monitor
            assert monitor is not None
            await monitor.execute("stop")
            assert (await engine.status("s1")).temperature is Temperature.WARM
            await monitor.execute("cont")
            assert (await engine.status("s1")).temperature is Temperature.HOT
            await engine.destroy("s1")

    async def test_what_died_while_nobody_looked_is_adopted_as_failed(self, settings: QemuSettings) -> None:
        async with opened(settings) as engine:
            made = await engine.create(SPEC)
        assert made.pid is not None
        identity = identify(made.pid)
        assert identity is not None
        process = await VmProcess.adopt(identity)
        assert process is not None
        os.kill(made.pid, signal.SIGTERM)
        await process.wait()
        async with opened(settings) as later:
            (found,) = await later.adopt()
            assert found.status is Status.FAILED
            assert found.cause is not None
            assert f"from pid {os.getpid()}" in found.cause.detail
            await later.destroy("s1")
        async with opened(settings) as last:
            assert await last.adopt() == []

    async def test_a_pid_that_came_back_for_somebody_else_is_left_alone(self, settings: QemuSettings) -> None:
        async with opened(settings) as engine:
            await engine.create(SPEC)
            record = engine._machines["s1"].record
            await engine.destroy("s1")
        (settings.sandboxes_dir / "s1").mkdir()
        ours = identify(os.getpid())
        assert ours is not None
        write_record(
            settings.sandboxes_dir / "s1",
            msgspec.structs.replace(record, phase=Phase.RUNNING, pid=ours.pid, start_time=ours.start_time - 1),
        )
        async with opened(settings) as later:
            (found,) = await later.adopt()
            assert found.status is Status.FAILED
            await later.destroy("s1")

    async def test_the_right_process_with_a_silent_monitor_is_ended_and_failed(
        self, settings: QemuSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with opened(settings) as engine:
            made = await engine.create(SPEC)
        assert made.pid is not None
        (settings.sandboxes_dir / "s1" / "qmp.sock").unlink()
        async with opened(settings) as later:
            (found,) = await later.adopt()
            assert found.status is Status.FAILED
            assert found.cause is not None
            assert "could not be adopted" in found.cause.detail
            assert identify(made.pid) is None
            await later.destroy("s1")

    async def test_a_machine_of_an_earlier_life_of_the_host_has_failed(self, settings: QemuSettings) -> None:
        async with opened(settings) as engine:
            await engine.create(SPEC)
            record = engine._machines["s1"].record
            await engine.destroy("s1")
        (settings.sandboxes_dir / "s1").mkdir()
        write_record(settings.sandboxes_dir / "s1", msgspec.structs.replace(record, boot_id="earlier"))
        async with opened(settings) as later:
            (found,) = await later.adopt()
            assert found.cause is not None
            assert found.cause.kind == "host-crash"
            await later.destroy("s1")
