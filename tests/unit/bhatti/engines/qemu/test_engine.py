"""The engine around guests that have no agent; machines with one are the business of tests/conformance."""

import dataclasses
import os
import signal

import msgspec
import pytest
from tests.unit.bhatti.engines.qemu.stub import (
    SPEC,
    nothing_is_left,
    opened,
)

from bhatti.engines.qemu.engine import QemuEngine
from bhatti.engines.qemu.process import identify
from bhatti.engines.qemu.record import RECORD_FILE, MachineRecord, Phase, host_boot_id, write_record
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import (
    Busy,
    Conflict,
    InvalidRequest,
    MissingDependency,
    NotFound,
    Unavailable,
)
from bhatti.model.sandbox import Status

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("qemu")]


async def test_an_engine_must_be_entered_first(settings: QemuSettings) -> None:
    engine = QemuEngine(settings)
    with pytest.raises(Unavailable) as caught:
        await engine.create(SPEC)
    assert caught.value.code == "not-open"
    await engine.aclose()


async def test_without_qemu_the_engine_does_not_open(settings: QemuSettings) -> None:
    broken = dataclasses.replace(settings, binary="/nonexistent/qemu")
    with pytest.raises(MissingDependency) as caught:
        async with QemuEngine(broken):
            pass
    assert caught.value.code == "qemu-missing"


async def test_what_the_engine_does_not_have_is_not_found(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        for ask in (engine.status, engine.destroy):
            with pytest.raises(NotFound):
                await ask("nobody")
        for look in (engine.link, engine.console):
            with pytest.raises(NotFound):
                look("nobody")
        assert await engine.list() == []


@pytest.mark.parametrize("bad", ["", "../x", "a/b", "-x", "x" * 64])
async def test_an_id_that_is_no_file_name_is_refused(settings: QemuSettings, bad: str) -> None:
    async with opened(settings) as engine:
        with pytest.raises(InvalidRequest):
            await engine.create(msgspec.structs.replace(SPEC, id=bad))
    assert await nothing_is_left(settings)


async def test_a_directory_without_a_record_is_removed(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        (settings.sandboxes_dir / "s1").mkdir()
        assert await engine.adopt() == []
        assert await nothing_is_left(settings)


async def test_a_spoilt_record_is_a_failed_machine_whose_disk_is_kept_until_destroy(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        directory = settings.sandboxes_dir / "s1"
        directory.mkdir()
        (directory / RECORD_FILE).write_text("{")
        (directory / "layer.ext4").touch()
        (found,) = await engine.adopt()
        assert found.status is Status.FAILED
        assert found.cause is not None
        assert RECORD_FILE in found.cause.detail
        assert (directory / "layer.ext4").exists()
        await engine.destroy("s1")
        assert await nothing_is_left(settings)


async def test_a_flooded_console_is_cut(settings: QemuSettings) -> None:
    record = MachineRecord(phase=Phase.FAILED, spec=SPEC, boot_id=host_boot_id(), created_at=1.0, network="user")
    async with opened(settings) as engine:
        directory = settings.sandboxes_dir / "s1"
        directory.mkdir()
        write_record(directory, record)
        (directory / "console.log").write_bytes(b"x" * (2 << 20))
        await engine.adopt()
        await engine._trimmer.trim_now()
        assert (directory / "console.log").stat().st_size <= 1 << 20
        assert len(engine.console("s1", max_bytes=100)) == 100
        await engine.destroy("s1")


async def test_images_are_not_let_go_of_while_a_sandbox_is_made(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        with engine._ready.giving_way(), pytest.raises(Busy):
            await engine.release_images()
        await engine.release_images()
        assert await engine.needed_files() == frozenset()


async def test_capabilities_tell_the_network(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        assert engine.capabilities.own_kernel
        assert engine.capabilities.rootless
        assert not engine.capabilities.bridge_network


@pytest.mark.usefixtures("nobody_waits_for_the_agent")
class TestLiving:
    """With a guest that only halts, but lives."""

    async def test_an_id_is_taken_until_it_is_destroyed(self, settings: QemuSettings) -> None:
        async with opened(settings) as engine:
            await engine.create(SPEC)
            with pytest.raises(Conflict) as caught:
                await engine.create(SPEC)
            assert caught.value.code == "sandbox-exists"
            assert (await engine.status("s1")).status is Status.RUNNING
            await engine.destroy("s1")

    async def test_the_list_is_in_order_of_creation(self, settings: QemuSettings) -> None:
        async with opened(settings) as engine:
            for name in ("b", "a"):
                await engine.create(msgspec.structs.replace(SPEC, id=name, name=name))
            assert [machine.id for machine in await engine.list()] == ["b", "a"]
            for name in ("a", "b"):
                await engine.destroy(name)

    async def test_the_next_engine_adopts_what_runs(self, settings: QemuSettings) -> None:
        async with opened(settings) as engine:
            made = await engine.create(SPEC)
        assert made.pid is not None
        assert identify(made.pid) is not None
        async with opened(settings) as later:
            assert await later.adopt() == [made]
            assert later.link("s1") is later.link("s1")
            os.kill(made.pid, signal.SIGKILL)
            process = later._machines["s1"]._process
            assert process is not None
            await process.wait()
            assert (await later.status("s1")).status is Status.FAILED
            await later.destroy("s1")
            assert await nothing_is_left(settings)

    @pytest.mark.parametrize("phase", [Phase.CREATING, Phase.DESTROYING])
    @pytest.mark.parametrize("pid_known", [True, False])
    async def test_what_was_half_done_is_undone_with_its_process(
        self, settings: QemuSettings, phase: Phase, pid_known: bool
    ) -> None:
        async with opened(settings) as engine:
            made = await engine.create(SPEC)
            record = engine._machines["s1"].record
        assert made.pid is not None
        changes: dict[str, object] = {} if pid_known else {"pid": 0, "start_time": 0}
        write_record(settings.sandboxes_dir / "s1", msgspec.structs.replace(record, phase=phase, **changes))
        async with opened(settings) as later:
            assert await later.adopt() == []
            assert await nothing_is_left(settings)

    async def test_a_process_whose_directory_is_gone_is_ended(self, settings: QemuSettings) -> None:
        async with opened(settings) as engine:
            made = await engine.create(SPEC)
        assert made.pid is not None
        for path in (settings.sandboxes_dir / "s1").iterdir():
            path.unlink()
        (settings.sandboxes_dir / "s1").rmdir()
        async with opened(settings) as later:
            assert await later.adopt() == []
            assert await nothing_is_left(settings)
