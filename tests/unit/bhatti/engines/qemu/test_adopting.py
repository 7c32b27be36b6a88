"""What keeps one machine from being taken over keeps nobody from the others; the rest is in test_engine.py."""

import sys
from pathlib import Path

import msgspec
import pytest
from tests.disks import full_disk
from tests.unit.bhatti.engines.qemu.stub import SPEC, nothing_is_left, opened

from bhatti.engines.qemu.adopting import adopt_machine, end_strays
from bhatti.engines.qemu.machine import QemuMachine
from bhatti.engines.qemu.process import VmProcess, identify
from bhatti.engines.qemu.record import MachineRecord, Phase, host_boot_id, write_record
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import EngineFailure
from bhatti.model.sandbox import Status

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("qemu")]


class Stuck(QemuMachine):
    """One whose process hangs in the kernel."""

    async def remove(self) -> None:
        raise EngineFailure("process 4711 does not die of SIGKILL", code="unkillable")


def left_behind(settings: QemuSettings, sandbox_id: str, phase: Phase) -> Path:
    """Make what an engine leaves of a machine that has no process."""
    directory = settings.sandboxes_dir / sandbox_id
    directory.mkdir()
    spec = msgspec.structs.replace(SPEC, id=sandbox_id, name=sandbox_id)
    record = MachineRecord(phase=phase, spec=spec, boot_id=host_boot_id(), created_at=1.0, network="user")
    write_record(directory, msgspec.structs.replace(record, address="10.0.2.15"))
    return directory


async def test_a_full_disk_keeps_nobody_from_their_machines(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        for sandbox_id in ("s1", "s2"):
            left_behind(settings, sandbox_id, Phase.STOPPED)
        with full_disk(0):
            found = await engine.adopt()
        assert [(machine.id, machine.status) for machine in found] == [
            ("s1", Status.STOPPED),
            ("s2", Status.STOPPED),
        ]
        for sandbox_id in ("s1", "s2"):
            await engine.destroy(sandbox_id)
        assert await nothing_is_left(settings)


async def test_one_that_cannot_be_removed_stays_for_whoever_tries_again(
    settings: QemuSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(settings) as engine:
        directory = left_behind(settings, "s1", Phase.DESTROYING)
        assert await adopt_machine(Stuck, engine.host, directory) is not None
        assert "does not die of SIGKILL" in caplog.text
        assert await adopt_machine(QemuMachine, engine.host, directory) is None
        assert await nothing_is_left(settings)


async def test_processes_that_nobody_knows_are_ended_and_no_others(tmp_path: Path) -> None:
    asleep = [sys.executable, "-c", "import time; time.sleep(3600)"]
    known, stray = [await VmProcess.spawn(asleep, log=tmp_path / "log") for _ in range(2)]
    await end_strays(lambda: [known.identity, stray.identity], {known.identity.pid})
    await stray.wait()
    assert identify(known.identity.pid) == known.identity
    await known.end()
