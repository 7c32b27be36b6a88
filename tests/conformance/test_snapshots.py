"""Snapshots that are damaged, lost, spent or interrupted: never a guess, and the disk is there whatever happens."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest
from tests.conformance import memory
from tests.conformance.conftest import Sandbox, new_spec
from tests.conformance.engines import Settings, settings_for
from tests.conformance.leftovers import traces_of

from bhatti.engines.base import Engine
from bhatti.engines.registry import open_engine
from bhatti.errors import Conflict
from bhatti.model.sandbox import Status

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(600)]

SMALL_STATE_BYTES = 4 << 20
"""Devices alone have some hundred KiB; memory would be in it if this were passed."""


@pytest.fixture(autouse=True)
def keeps_memory(engine: Engine) -> None:
    if not engine.capabilities.memory_snapshot:
        pytest.skip(f"the engine {engine.name} cannot keep memory over a stop")


@pytest.fixture(autouse=True)
async def nothing_new(engine: Engine, settings: Settings) -> AsyncIterator[None]:
    """No test leaves more than it found; other processes and spent snapshots are what these are about."""
    before = await traces_of(settings)
    yield
    assert (await traces_of(settings)).whoever_runs() == before.whoever_runs()


@pytest.fixture(scope="module")
async def victim(engine: Engine) -> AsyncIterator[Sandbox]:
    """One sandbox for this file, which every test leaves running."""
    if not engine.capabilities.memory_snapshot:
        pytest.skip(f"the engine {engine.name} cannot keep memory over a stop")
    spec = new_spec("victim")
    machine = await engine.create(spec)
    try:
        yield Sandbox(spec, machine, engine.link(spec.id))
    finally:
        await engine.destroy(spec.id)


def directory(settings: Settings, sandbox: Sandbox) -> Path:
    return settings.state_dir / "sandboxes" / sandbox.spec.id


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 16
    path.write_bytes(content)


async def test_every_stop_saves_the_devices_alone_and_is_verified(
    engine: Engine, victim: Sandbox, settings: Settings
) -> None:
    for _ in range(2):
        await engine.stop(victim.spec.id)
        assert (directory(settings, victim) / "state").stat().st_size < SMALL_STATE_BYTES
        report = await engine.verify_snapshot(victim.spec.id, probe=True)
        assert (report.usable, report.probed) == (True, True), report.detail
        assert (await engine.start(victim.spec.id)).how == "restored"


@pytest.mark.parametrize(
    ("damage", "words"),
    [(lambda at: flip(at / "state"), "checksum"), (lambda at: (at / "ram").unlink(), "memory file")],
    ids=["flipped bit", "memory file removed"],
)
async def test_a_damaged_snapshot_is_refused_or_boots_from_a_disk_that_is_whole(
    engine: Engine, victim: Sandbox, settings: Settings, damage: Callable[[Path], None], words: str
) -> None:
    content = os.urandom(100_000)
    await engine.link(victim.spec.id).write_file("/workspace/data", content)
    await engine.stop(victim.spec.id)
    damage(directory(settings, victim))
    assert words in (await engine.verify_snapshot(victim.spec.id)).detail
    with pytest.raises(Conflict, match=words) as caught:
        await engine.start(victim.spec.id, require_memory=True)
    assert caught.value.code == "memory-lost"
    started = await engine.start(victim.spec.id)
    assert started.how == "disk-boot"
    assert words in started.why
    assert await engine.link(victim.spec.id).read_file("/workspace/data") == content


@pytest.mark.parametrize("temperature", ["hot", "warm"])
async def test_a_qemu_killed_after_a_restore_never_sees_its_spent_snapshot_again(
    engine: Engine, victim: Sandbox, temperature: str
) -> None:
    link = engine.link(victim.spec.id)
    await link.write_file("/workspace/before", b"before")
    await engine.stop(victim.spec.id)
    restored = await engine.start(victim.spec.id, require_memory=True)
    link = engine.link(victim.spec.id)
    await link.write_file("/workspace/after", b"after")
    await link.sync()
    if temperature == "warm":
        await engine.pause(victim.spec.id)
    assert restored.pid is not None
    pidfd = os.pidfd_open(restored.pid)
    try:
        os.kill(restored.pid, signal.SIGKILL)
        await anyio.wait_readable(pidfd)
    finally:
        os.close(pidfd)
    dead = await engine.status(victim.spec.id)
    assert dead.status is Status.FAILED
    with pytest.raises(Conflict, match="SIGKILL"):
        await engine.start(victim.spec.id, require_memory=True)
    started = await engine.start(victim.spec.id)
    assert started.how == "disk-boot"
    for name in ("before", "after"):
        assert await engine.link(victim.spec.id).read_file(f"/workspace/{name}") == name.encode()


async def test_a_stopped_sandbox_is_adopted_and_goes_on_where_it_was(
    engine_kind: str, engine_name: str, tmp_path: Path, images_dir: Path, docker_socket: Path | None
) -> None:
    settings = settings_for(engine_kind, tmp_path / "state", images_dir, docker_socket)
    spec = new_spec("adopted")
    async with open_engine(engine_name, settings) as first:
        machine = await first.create(spec)
        await memory.begin(first.link(spec.id))
        await memory.tell(first.link(spec.id), "remembered")
        await first.stop(spec.id)
    async with open_engine(engine_name, settings) as later:
        (found,) = await later.adopt()
        assert (found.status, found.address) == (Status.STOPPED, machine.address)
        assert (await later.ensure_hot(spec.id)).how == "restored"
        assert await memory.recall(later.link(spec.id)) == "remembered"
        await later.destroy(spec.id)
    assert str(await traces_of(settings)) == "nothing"
