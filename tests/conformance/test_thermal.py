"""Thermal tests: pause and resume, stop and start, ensure-hot from every temperature; what is kept and what is told."""

import time
from collections.abc import AsyncIterator, Callable

import anyio
import pytest
from tests.conformance import memory
from tests.conformance.conftest import Sandbox, new_spec
from tests.conformance.engines import Settings
from tests.conformance.leftovers import traces_of

from bhatti.engines.base import Engine
from bhatti.errors import Conflict
from bhatti.guestlink.client import GuestLink
from bhatti.model.sandbox import Status, Temperature

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(600)]

NETWORK_WITHIN_S = 3
"""Both directions work at once; the bound is for a busy host under emulation, not for the network."""


@pytest.fixture(autouse=True)
async def nothing_new(engine: Engine, settings: Settings) -> AsyncIterator[None]:
    """No test leaves more than it found; other processes and spent snapshots are what these are about."""
    before = await traces_of(settings)
    yield
    assert (await traces_of(settings)).whoever_runs() == before.whoever_runs()


@pytest.fixture(scope="module")
async def sleeper(engine: Engine) -> AsyncIterator[Sandbox]:
    """One sandbox for this file, which every test leaves hot."""
    spec = new_spec("sleeper")
    machine = await engine.create(spec)
    try:
        yield Sandbox(spec, machine, engine.link(spec.id))
    finally:
        await engine.destroy(spec.id)


@pytest.fixture
def pauses(engine: Engine) -> None:
    if not engine.capabilities.pause:
        pytest.skip(f"the engine {engine.name} cannot pause")


@pytest.fixture
def keeps_memory(engine: Engine) -> None:
    if not engine.capabilities.memory_snapshot:
        pytest.skip(f"the engine {engine.name} cannot keep memory over a stop")


@pytest.mark.usefixtures("pauses")
async def test_a_paused_sandbox_does_nothing_and_goes_on_where_it_was(engine: Engine, sleeper: Sandbox) -> None:
    """Pause/resume (hot to warm and back)."""
    async with sleeper.link.stream(["sh", "-c", "echo one; read line; echo $line"]) as command:
        assert (await command.__anext__()).data == b"one\n"  # type: ignore[union-attr]  # it says this first
        paused = await engine.pause(sleeper.spec.id)
        assert (paused.status, paused.temperature) == (Status.RUNNING, Temperature.WARM)
        with pytest.raises(Conflict):
            engine.link(sleeper.spec.id)
        resumed = await engine.resume(sleeper.spec.id)
        assert (resumed.temperature, resumed.pid) == (Temperature.HOT, paused.pid)
        # The connection and the command on it are still there.
        await command.send_stdin(b"two\n")
        assert (await command.__anext__()).data == b"two\n"  # type: ignore[union-attr]


@pytest.mark.usefixtures("pauses")
async def test_a_resumed_guest_knows_what_time_it_is(engine: Engine, sleeper: Sandbox) -> None:
    await engine.pause(sleeper.spec.id)
    await anyio.sleep(2)  # what is tested is that this time does not go missing
    await engine.resume(sleeper.spec.id)
    assert await memory.clock_error_s(engine.link(sleeper.spec.id)) < 1


@pytest.mark.usefixtures("pauses")
async def test_ensure_hot_is_nothing_when_hot_and_wakes_what_is_warm(engine: Engine, sleeper: Sandbox) -> None:
    """EnsureHot from warm."""
    before = await engine.status(sleeper.spec.id)
    assert await engine.ensure_hot(sleeper.spec.id) == before
    await engine.pause(sleeper.spec.id)
    assert (await engine.ensure_hot(sleeper.spec.id)).temperature is Temperature.HOT
    assert (await engine.link(sleeper.spec.id).exec(["echo", "hi"])).stdout == b"hi\n"


async def test_the_guest_tells_what_keeps_it_awake(engine: Engine, sleeper: Sandbox) -> None:
    """Activity tracking."""
    link = sleeper_link(engine, sleeper)
    before = await link.activity()
    async with link.shell(["sh"]) as shell:
        await shell.write(b"echo be''gun\n")
        seen = b""
        while b"begun" not in seen:
            seen += await shell.read() or b""
        during = await link.activity()
        await link.kill_session(shell.session.session_id)
    assert (before.attached_sessions, during.attached_sessions) == (0, 1)
    assert during.active_sessions == before.active_sessions + 1
    assert during.last_activity_unix >= before.last_activity_unix


@pytest.mark.usefixtures("keeps_memory")
async def test_memory_disk_and_processes_of_every_generation_are_there(
    engine: Engine, sleeper: Sandbox, record_property: Callable[[str, object], None]
) -> None:
    """Lifecycle, snapshot/resume; diff snapshots: what each generation wrote is verified in each later one.

    Performance: Diff vs full snapshot: timing and size comparison, in the report.
    """
    sandbox_id = sleeper.spec.id
    pid = await memory.begin(engine.link(sandbox_id))
    boot_id = (await engine.link(sandbox_id).hello()).boot_id
    told = ""
    for generation in range(3):
        link = engine.link(sandbox_id)
        word = f"generation-{generation}"
        told = f"{told} {word}".strip()
        assert await memory.tell(link, word) == told
        await link.write_file(f"/workspace/{word}", word.encode())
        begun = time.perf_counter()
        stopped = await engine.stop(sandbox_id)
        record_property(f"stop {generation} ms", round((time.perf_counter() - begun) * 1000, 1))
        assert (stopped.status, stopped.temperature, stopped.pid) == (Status.STOPPED, Temperature.COLD, None)
        record_property(f"snapshot {generation} bytes", (await engine.verify_snapshot(sandbox_id)).size_bytes)
        started = await engine.start(sandbox_id, require_memory=True)
        assert (started.how, started.address) == ("restored", sleeper.machine.address)
        link = engine.link(sandbox_id)
        assert await memory.recall(link) == told
        assert (await link.hello()).boot_id == boot_id
        for earlier in range(generation + 1):
            name = f"generation-{earlier}"
            assert await link.read_file(f"/workspace/{name}") == name.encode()
        listed = (await link.exec(["ps", "-o", "args=", "-p", str(pid)])).stdout.decode()
        assert "python3" in listed
    await engine.link(sandbox_id).exec(["kill", str(pid)])


@pytest.mark.usefixtures("keeps_memory")
async def test_a_restored_guest_has_the_time_and_the_network_both_ways_at_once(
    engine: Engine, sleeper: Sandbox
) -> None:
    """Networking: network survives snapshot/restore."""
    gateway = (await sleeper_link(engine, sleeper).exec(["ip", "-4", "route", "show", "default"])).stdout.split()[2]
    await engine.stop(sleeper.spec.id)
    assert (await engine.start(sleeper.spec.id)).how == "restored"
    link = sleeper_link(engine, sleeper)  # host to guest: it answers
    ping = await link.exec(["ping", "-c", "1", "-W", str(NETWORK_WITHIN_S), gateway.decode()])
    assert ping.exit_code == 0, ping.stdout
    assert await memory.clock_error_s(link) < 1


@pytest.mark.usefixtures("keeps_memory")
async def test_ensure_hot_wakes_what_is_cold(engine: Engine, sleeper: Sandbox) -> None:
    """EnsureHot from cold."""
    await engine.stop(sleeper.spec.id)
    with pytest.raises(Conflict):
        engine.link(sleeper.spec.id)
    woken = await engine.ensure_hot(sleeper.spec.id)
    assert (woken.temperature, woken.how) == (Temperature.HOT, "restored")
    assert (await sleeper_link(engine, sleeper).exec(["echo", "hi"])).stdout == b"hi\n"


async def test_a_stop_without_memory_keeps_the_disk(engine: Engine, sleeper: Sandbox) -> None:
    sandbox_id = sleeper.spec.id
    await engine.link(sandbox_id).write_file("/workspace/kept", b"content")
    boot_id = (await engine.link(sandbox_id).hello()).boot_id
    assert (await engine.stop(sandbox_id, memory=False)).status is Status.STOPPED
    with pytest.raises(Conflict) as caught:
        await engine.start(sandbox_id, require_memory=True)
    assert caught.value.code == "memory-lost"
    started = await engine.start(sandbox_id)
    assert (started.status, started.how) == (Status.RUNNING, "disk-boot")
    assert started.why
    link = engine.link(sandbox_id)
    assert await link.read_file("/workspace/kept") == b"content"
    if engine.capabilities.own_kernel:
        assert (await link.hello()).boot_id != boot_id


def sleeper_link(engine: Engine, sleeper: Sandbox) -> GuestLink:
    return engine.link(sleeper.spec.id)
