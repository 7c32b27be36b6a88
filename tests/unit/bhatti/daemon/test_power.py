"""Orders and calls that meet: nobody is refused for having come at the wrong moment."""

import os
import signal
from collections.abc import Awaitable, Callable

import anyio
import msgspec
import pytest
from tests.engines.local import LocalEngine
from tests.serving import Served

from bhatti.engines.base import Machine
from bhatti.errors import Busy, Conflict, EngineFailure, InvalidRequest, NotFound
from bhatti.model.sandbox import Status
from bhatti.operations import types

pytestmark = pytest.mark.anyio


async def exec_echo(served: Served, outputs: list[bytes]) -> None:
    async with served.service.visit("one", "exec is under way") as visitor:
        outputs.append((await visitor.link.exec(["echo", "awake"])).stdout)


def slowed(served: Served, monkeypatch: pytest.MonkeyPatch, method: str) -> tuple[anyio.Event, anyio.Event]:
    """Make a method of the engine stop in its middle: it sets the first event, and waits for the second."""
    begun, go_on = anyio.Event(), anyio.Event()
    real: Callable[..., Awaitable[Machine]] = getattr(served.engine, method)

    async def slow(sandbox_id: str, **how: bool) -> Machine:
        begun.set()
        await go_on.wait()
        return await real(sandbox_id, **how)

    monkeypatch.setattr(served.engine, method, slow)
    return begun, go_on


async def test_a_paused_sandbox_is_resumed_by_name_or_by_a_call(served: Served) -> None:
    made = await served.create()
    paused = await served.service.pause_sandbox("one")
    assert (paused.status, paused.thermal, paused.thermal_reason) == (
        "running",
        "warm",
        "cold in 30 min (paused: on request)",
    )
    assert (await served.service.resume_sandbox("one")).thermal == "hot"
    await served.service.pause_sandbox("one")
    outputs: list[bytes] = []
    await exec_echo(served, outputs)
    shown = await served.service.sandbox("one")
    assert (outputs, shown.thermal, shown.engine_meta) == ([b"awake\n"], "hot", made.engine_meta)
    await served.service.stop()  # waits for what nobody waits for
    kinds = [(event.kind, event.detail) for event in await served.journal.events()]
    asked = [("paused", "on request"), ("resumed", "on request"), ("paused", "on request")]
    assert kinds[1:] == [*asked, ("resumed", "for a call")]


async def test_who_is_in_can_have_it_run_on_unless_it_was_stopped(served: Served) -> None:
    await served.create()
    async with served.service.visit("one", "a terminal is attached") as visitor:
        await visitor.rouse()
        assert served.engine.resumes == 0
        await served.service.pause_sandbox("one")
        await visitor.rouse()
        assert ((await served.service.sandbox("one")).thermal, served.engine.resumes) == ("hot", 1)
        await served.service.stop_sandbox("one")
        await visitor.rouse()
    assert (await served.service.sandbox("one")).status is Status.STOPPED


async def test_pausing_twice_is_pausing_and_resuming_what_is_hot_is_nothing(served: Served) -> None:
    await served.create()
    await served.service.resume_sandbox("one")
    await served.service.pause_sandbox("one")
    assert (await served.service.pause_sandbox("one")).thermal == "warm"
    await served.service.stop()
    assert [event.kind for event in await served.journal.events()] == ["created", "paused"]


async def test_what_is_cold_is_neither_paused_nor_resumed(served: Served) -> None:
    await served.create()
    await served.service.stop_sandbox("one")
    for order in (served.service.pause_sandbox, served.service.resume_sandbox):
        with pytest.raises(Conflict) as caught:
            await order("one")
        assert (caught.value.code, caught.value.hint) == ("not-running", "`bhatti start one` brings it up")


async def test_looking_wakes_nobody(served: Served) -> None:
    await served.create()
    await served.service.pause_sandbox("one")
    assert [found.thermal for found in await served.service.sandboxes()] == ["warm"]
    assert (await served.service.sandbox("one")).thermal == "warm"
    assert served.engine.resumes == 0


@pytest.mark.parametrize("sleep", ["pause_sandbox", "stop_sandbox"])
async def test_many_calls_wake_it_once(served: Served, sleep: str) -> None:
    await served.create()
    await getattr(served.service, sleep)("one")
    outputs: list[bytes] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(exec_echo, served, outputs)
    assert outputs == [b"awake\n"] * 20
    await served.service.stop()
    woken = [event.kind for event in await served.journal.events() if event.kind in ("resumed", "woken")]
    assert len(woken) == 1


@pytest.mark.parametrize(("order", "method"), [("doze", "pause"), ("sleep", "stop")])
async def test_a_call_that_comes_while_it_is_put_to_sleep_waits_and_wakes_it(
    served: Served, monkeypatch: pytest.MonkeyPatch, order: str, method: str
) -> None:
    made = await served.create()
    begun, go_on = slowed(served, monkeypatch, method)
    record = served.service._catalogue.find(made.id)
    outputs: list[bytes] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(getattr(served.service._power, order), record, "idle", lambda: True)
        await begun.wait()
        for _ in range(3):
            tasks.start_soon(exec_echo, served, outputs)
        await anyio.wait_all_tasks_blocked()
        assert outputs == []
        go_on.set()
    assert outputs == [b"awake\n"] * 3
    assert (await served.service.sandbox("one")).thermal == "hot"


async def test_a_person_is_not_refused_because_the_daemon_is_putting_it_to_sleep(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await served.create()
    begun, go_on = slowed(served, monkeypatch, "pause")
    record = served.service._catalogue.find(made.id)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(served.service._power.doze, record, "idle", lambda: True)
        await begun.wait()
        tasks.start_soon(served.service.destroy, "one")
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    with pytest.raises(NotFound):
        await served.service.sandbox("one")


async def test_a_call_that_comes_during_a_destruction_is_told_of_it(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.create()
    begun, go_on = slowed(served, monkeypatch, "destroy")

    async def call() -> None:
        with pytest.raises(NotFound) as caught:
            await exec_echo(served, [])
        assert caught.value.code == "sandbox-destroyed"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(served.service.destroy, "one")
        await begun.wait()
        tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        go_on.set()


async def test_who_is_in_is_not_put_to_sleep(served: Served) -> None:
    made = await served.create()
    record = served.service._catalogue.find(made.id)
    await served.service._power.doze(record, "idle", lambda: False)
    await served.service._power.sleep(record, "idle", lambda: False)
    assert (served.engine.pauses, served.engine.stops) == (0, 0)


async def test_the_manager_does_not_wait_for_a_person(served: Served) -> None:
    made = await served.create()
    record = served.service._catalogue.find(made.id)
    with served.service.claims.hold(made.id, "fork"), pytest.raises(Busy):
        await served.service._power.doze(record, "idle", lambda: True)


async def test_an_order_that_fails_leaves_what_is_known_true(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    await served.create()
    await served.service.pause_sandbox("one")

    async def fail(sandbox_id: str, **how: bool) -> Machine:
        raise EngineFailure("the memory cannot be saved")

    with monkeypatch.context() as patch:
        patch.setattr(served.engine, "stop", fail)
        with pytest.raises(EngineFailure):
            await served.service.stop_sandbox("one")
        patch.setattr(served.engine, "pause", fail)
        with pytest.raises(EngineFailure):
            await served.service.pause_sandbox("one")
        patch.setattr(served.engine, "resume", fail)
        with pytest.raises(EngineFailure):
            await served.service.resume_sandbox("one")
    assert (await served.service.sandbox("one")).thermal == "warm"
    outputs: list[bytes] = []
    await exec_echo(served, outputs)
    assert outputs == [b"awake\n"]


async def test_a_paused_one_that_was_killed_is_told_as_dead(served: Served) -> None:
    made = await served.create()
    await served.service.pause_sandbox("one")
    descriptor = os.pidfd_open(int(made.engine_meta["pid"]))
    os.kill(int(made.engine_meta["pid"]), signal.SIGKILL)
    await anyio.wait_readable(descriptor)
    os.close(descriptor)
    with pytest.raises(Conflict, match="has failed"):
        await exec_echo(served, [])
    assert (await served.service.sandbox("one")).status is Status.FAILED


async def test_who_insists_on_memory_is_refused_where_there_is_none_and_it_stays_asleep(served: Served) -> None:
    made = await served.create()
    insist = types.SandboxStart(memory=True)
    await served.service.stop_sandbox(made.id)
    assert (await served.service.start_sandbox(made.id, insist)).status is Status.RUNNING
    await served.service.stop_sandbox(made.id, types.SandboxStop(memory=False))
    with pytest.raises(Conflict) as caught:
        await served.service.start_sandbox(made.id, insist)
    assert caught.value.code == "memory-lost"
    with pytest.raises(InvalidRequest) as caught_both:
        await served.service.start_sandbox(made.id, types.SandboxStart(memory=True, force=True))
    assert caught_both.value.code == "bad-start"
    assert (await served.service.sandbox(made.id)).status is Status.STOPPED
    assert (await served.service.start_sandbox(made.id)).status is Status.RUNNING


async def test_memory_is_kept_by_who_can_unless_it_is_not_wanted(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await served.create()
    asked: list[bool] = []
    stop, can = served.engine.stop, served.engine.capabilities

    async def noted(sandbox_id: str, *, memory: bool = True) -> Machine:
        asked.append(memory)
        return await stop(sandbox_id)

    monkeypatch.setattr(served.engine, "stop", noted)
    for request in (types.SandboxStop(), types.SandboxStop(memory=True), types.SandboxStop(memory=False)):
        told = await served.service.stop_sandbox(made.id, request)
        await served.service.start_sandbox(made.id)
    assert asked == [True, True, False]
    assert "without its memory" in told.thermal_reason
    unable = msgspec.structs.replace(can, memory_snapshot=False)
    monkeypatch.setattr(LocalEngine, "capabilities", unable)
    told = await served.service.stop_sandbox(made.id)
    assert asked[3:] == [False]
    assert "memory not kept: local cannot" in told.thermal_reason
