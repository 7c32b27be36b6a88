"""Real QEMU processes for the tests of this folder, most of them without a guest."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.unit.bhatti.engines.qemu.stub import forget_the_agent

from bhatti.engines.qemu import qmp
from bhatti.engines.qemu.process import VmProcess, identify
from bhatti.engines.qemu.settings import QemuSettings

StartQemu = Callable[..., Awaitable[VmProcess]]


@pytest.fixture(scope="session")
def qemu() -> str:
    found = shutil.which("qemu-system-x86_64")
    if found is None:
        pytest.skip("needs QEMU: apt install qemu-system-x86")
    return found


@pytest.fixture
async def start_qemu(qemu: str, tmp_path: Path) -> AsyncIterator[StartQemu]:
    """Start QEMU without a guest, its monitor at `tmp_path/qmp.sock`; all that were started end with the test."""
    started: list[VmProcess] = []

    async def start(*arguments: str) -> VmProcess:
        listener = qmp.listen(tmp_path / "qmp.sock")
        command = [qemu, "-nodefaults", "-no-user-config", "-display", "none", *(arguments or ("-M", "none"))]
        command += ["-chardev", "socket,id=monitor,fd=3,server=on,wait=off", "-mon", "chardev=monitor,mode=control"]
        try:
            process = await VmProcess.spawn(command, log=tmp_path / "qemu.log", inherit={3: listener.fileno()})
        finally:
            listener.close()
        started.append(process)
        return process

    yield start
    for process in started:
        await process.end()
        assert identify(process.identity.pid) is None


@pytest.fixture
def settings(tmp_path: Path) -> QemuSettings:
    return QemuSettings(
        state_dir=tmp_path / "state",
        images_dir=tmp_path,
        accelerator="tcg",
        network="user",
        boot_timeout_s=0.7,
        fork=False,
    )


@pytest.fixture
def nobody_waits_for_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """See `forget_the_agent`."""
    forget_the_agent(monkeypatch)
