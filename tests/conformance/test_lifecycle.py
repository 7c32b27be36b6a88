"""Engine integration tests, Lifecycle: Create, exec, shell, destroy; template-free creation."""

import os
import shutil
import signal
from pathlib import Path

import anyio
import pytest
from tests.conformance.conftest import Create, Sandbox, new_spec
from tests.conformance.engines import Settings, settings_for
from tests.conformance.leftovers import traces_of

from bhatti.engines.base import Engine
from bhatti.engines.qemu.record import BOOT_ID, host_boot_id
from bhatti.engines.registry import open_engine
from bhatti.errors import Conflict, CorruptData, EngineFailure, NotFound
from bhatti.model.sandbox import Status, Temperature

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(300)]


async def test_a_created_sandbox_runs_and_says_how_it_came_to_be(engine: Engine, box: Sandbox) -> None:
    machine = box.machine
    assert (machine.status, machine.temperature) == (Status.RUNNING, Temperature.HOT)
    assert machine.how in ("booted", "forked")
    assert machine.why
    assert machine.pid is not None
    assert machine.timings_ms["total"] > 0
    assert await engine.status(box.spec.id) == machine


async def test_the_parts_of_a_boot_are_timed_on_both_sides(engine: Engine, box: Sandbox) -> None:
    if not engine.capabilities.own_kernel:
        pytest.skip("without a kernel of its own a guest does not boot")
    if box.machine.how != "booted":
        pytest.skip(f"it was {box.machine.how}, not booted")
    timings = box.machine.timings_ms
    assert {"network", "config", "layer", engine.name, "agent", "total"} <= timings.keys()
    assert any(name.startswith("guest.") for name in timings)
    assert timings["total"] >= timings["agent"]


async def test_all_running_sandboxes_are_listed_oldest_first(engine: Engine, pair: tuple[Sandbox, Sandbox]) -> None:
    listed = [machine.id for machine in await engine.list()]
    assert set(listed) == {sandbox.spec.id for sandbox in pair}


async def test_the_console_is_kept_and_bounded(engine: Engine, box: Sandbox) -> None:
    assert "lohar: ready" in await anyio.to_thread.run_sync(engine.console, box.spec.id)
    assert len(await anyio.to_thread.run_sync(lambda: engine.console(box.spec.id, max_bytes=10))) <= 10


async def test_the_guest_has_a_kernel_of_its_own(engine: Engine, box: Sandbox) -> None:
    if not engine.capabilities.own_kernel:
        pytest.skip("the engine runs guests on the host's kernel")
    # The same release may run on both sides, as it does in the lab; no two kernels that run have the same boot id.
    result = await box.link.exec(["/bin/sh", "-c", f"uname -r; cat {BOOT_ID} 2>/dev/null"])
    assert result.stdout.decode() != f"{os.uname().release}\n{host_boot_id()}\n"


async def test_a_destroyed_sandbox_is_gone_for_every_call(engine: Engine, create: Create, settings: Settings) -> None:
    """Lifecycle, and: double destroy is an error; exec fails after destroy."""
    sandbox = await create()
    result = await sandbox.link.exec(["echo", "hello"])
    assert (result.exit_code, result.stdout) == (0, b"hello\n")
    before = await traces_of(settings)
    assert before.processes
    await engine.destroy(sandbox.spec.id)
    with pytest.raises(NotFound):
        await engine.destroy(sandbox.spec.id)
    with pytest.raises(NotFound):
        await engine.status(sandbox.spec.id)
    with pytest.raises(NotFound):
        engine.link(sandbox.spec.id)
    assert sandbox.spec.id not in {machine.id for machine in await engine.list()}


async def test_an_id_that_lives_cannot_be_created_again(engine: Engine, box: Sandbox) -> None:
    with pytest.raises(Conflict) as caught:
        await engine.create(new_spec("other", id=box.spec.id))
    assert caught.value.code == "sandbox-exists"
    assert (await engine.status(box.spec.id)).status is Status.RUNNING


async def test_an_image_that_does_not_exist_is_not_found(engine: Engine) -> None:
    with pytest.raises(NotFound) as caught:
        await engine.create(new_spec("none", image="no-such-image"))
    assert caught.value.code == "image-not-found"
    assert caught.value.hint is not None


async def test_a_damaged_image_is_found_before_anything_is_booted(
    engine: Engine, engine_kind: str, images_dir: Path, docker_socket: Path | None, tmp_path: Path
) -> None:
    if not engine.capabilities.own_kernel:
        pytest.skip("only what boots a kernel reads the image's file system directly")
    copy = tmp_path / "images"
    await anyio.to_thread.run_sync(lambda: shutil.copytree(images_dir, copy, copy_function=os.symlink))
    for damaged in copy.glob("artefacts/root/*/*.ext4"):
        damaged.unlink()
        damaged.write_bytes(b"cut short")
    settings = settings_for(engine_kind, tmp_path / "state", copy, docker_socket)
    async with open_engine(engine.name, settings) as broken:
        with pytest.raises(CorruptData) as caught:
            await broken.create(new_spec("corrupt"))
    assert caught.value.code == "image-corrupt"
    assert "image build" in str(caught.value.hint)
    assert str(await traces_of(settings)) == "nothing"


async def test_a_create_that_is_cancelled_while_the_guest_boots_leaves_nothing(engine: Engine) -> None:
    with anyio.CancelScope() as scope:
        await engine.create(new_spec("cancelled"), progress=lambda stage: scope.cancel() if stage == "agent" else None)
    assert scope.cancelled_caught


async def test_a_machine_killed_while_its_guest_boots_is_told_and_leaves_nothing(
    engine: Engine, settings: Settings, box: Sandbox
) -> None:
    if not engine.capabilities.own_kernel:
        pytest.skip("without a kernel of its own a guest does not boot")
    before = await traces_of(settings)
    boots = anyio.Event()

    async def kill() -> None:
        await boots.wait()
        for line in (await traces_of(settings)).processes - before.processes:
            os.kill(int(line.partition(" ")[0]), signal.SIGKILL)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kill)
        with pytest.raises(EngineFailure, match="SIGKILL") as caught:
            await engine.create(
                new_spec("unborn"), progress=lambda stage: boots.set() if stage in ("agent", "identity") else None
            )
    assert caught.value.code == "boot-failed"
    assert (await engine.status(box.spec.id)).status is Status.RUNNING


async def test_a_machine_killed_from_outside_has_failed_and_tells_its_cause(engine: Engine, create: Create) -> None:
    sandbox = await create("killed")
    assert sandbox.machine.pid is not None
    pidfd = os.pidfd_open(sandbox.machine.pid)
    try:
        os.kill(sandbox.machine.pid, signal.SIGKILL)
        await anyio.wait_readable(pidfd)
    finally:
        os.close(pidfd)
    dead = await engine.status(sandbox.spec.id)
    assert dead.status is Status.FAILED
    assert dead.cause is not None
    assert dead.cause.kind == "killed"
    assert "SIGKILL" in dead.cause.detail
    assert "lohar: ready" in dead.cause.console_tail
    with pytest.raises(Conflict):
        engine.link(sandbox.spec.id)
    await engine.destroy(sandbox.spec.id)


async def test_a_guest_that_panics_has_failed_with_its_last_words(engine: Engine, create: Create) -> None:
    if not engine.capabilities.own_kernel:
        pytest.skip("without a kernel of its own a guest cannot panic")
    sandbox = await create("panics")
    assert sandbox.machine.pid is not None
    pidfd = os.pidfd_open(sandbox.machine.pid)
    try:
        async with sandbox.link.stream(["sh", "-c", "echo c > /proc/sysrq-trigger"], user="root"):
            await anyio.wait_readable(pidfd)
    finally:
        os.close(pidfd)
    dead = await engine.status(sandbox.spec.id)
    assert dead.cause is not None
    assert dead.cause.kind == "guest-panic"
    assert "sysrq" in dead.cause.detail
    await engine.destroy(sandbox.spec.id)


async def test_a_guest_that_switches_itself_off_has_ended_and_says_so(engine: Engine, create: Create) -> None:
    """Firecracker's process does not end with its guest: whoever asks how the sandbox is finds out."""
    if not engine.capabilities.own_kernel:
        pytest.skip("without a kernel of its own a guest cannot switch itself off")
    sandbox = await create("off")
    # This is what `poweroff` does: the agent is the guest's first process.
    async with sandbox.link.stream(["sh", "-c", "kill -TERM 1; sleep 600"], user="root"):
        while (dead := await engine.status(sandbox.spec.id)).status is Status.RUNNING:  # noqa: ASYNC110  # asking is what finds it out
            await anyio.sleep(0.1)
    assert (dead.status, dead.pid) == (Status.FAILED, None)
    assert dead.cause is not None
    assert (dead.cause.kind, dead.cause.detail) == ("exit", "the guest powered itself off")
    assert "reboot: " in dead.cause.console_tail
    with pytest.raises(Conflict):
        engine.link(sandbox.spec.id)
    await engine.destroy(sandbox.spec.id)
