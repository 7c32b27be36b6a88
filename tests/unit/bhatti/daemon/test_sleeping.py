"""The thermal manager over real agents, and time that is a number."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest
from tests.serving import Served, serving

from bhatti.operations import types

pytestmark = pytest.mark.anyio


class Slept:
    """A daemon whose clock is moved by hand; its own rounds are replaced by `round`."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.now = 1000.0
        served.service._ledger.clock = lambda: self.now
        assert served.service._sleeping is not None
        self.sleeping = served.service._sleeping

    async def round(self, after_s: float) -> None:
        """Let time go by, and look after every sandbox once, to the end."""
        self.now += after_s
        async with anyio.create_task_group() as tasks:
            self.sleeping.manager.round(tasks)

    async def shown(self) -> tuple[str, str]:
        found = await self.served.service.sandbox("one")
        return found.thermal, found.thermal_reason


@pytest.fixture
async def slept(directory: Path) -> AsyncIterator[Slept]:
    async with serving(directory, "thermal.ask_timeout_s=0.2", "thermal.unanswered_limit=2") as served:
        found = Slept(served)
        await found.sleeping.aclose()  # its own rounds would come between
        yield found


async def create(slept: Slept, **fields: object) -> types.Sandbox:
    return await slept.served.service.create(types.SandboxCreate(name="one", **fields), lambda stage: None)  # type: ignore[arg-type]


async def test_idle_is_warm_then_cold_and_a_call_finds_it_as_it_was(slept: Slept) -> None:
    made = await create(slept)
    await slept.round(18)
    assert await slept.shown() == ("hot", "warm in 12 s")
    await slept.round(12)
    assert await slept.shown() == ("warm", "cold in 29 min (paused: idle for 30 s)")
    await slept.round(1770)
    assert await slept.shown() == ("cold", "cold: wakes at the next call (idle for 30 min)")
    async with slept.served.service.visit("one", "exec is under way") as visitor:
        assert await slept.shown() == ("hot", "kept hot: exec is under way")
        assert (await visitor.link.exec(["true"])).exit_code == 0
    assert (await slept.served.service.sandbox("one")).engine_meta == made.engine_meta
    await slept.served.service.stop()
    kinds = [(event.kind, event.detail) for event in await slept.served.journal.events()]
    assert kinds[1:] == [("paused", "idle for 30 s"), ("stopped", "idle for 30 min"), ("woken", "")]


async def test_the_times_are_its_own_if_it_has_any(slept: Slept) -> None:
    await create(slept, warm_after_s=5, cold_after_s=7)
    await slept.round(5)
    assert (await slept.shown())[0] == "warm"
    await slept.round(2)
    assert (await slept.shown())[0] == "cold"


async def test_keep_hot_keeps_hot_until_it_is_taken_back(slept: Slept) -> None:
    await create(slept, keep_hot=True)
    await slept.round(10_000)
    assert await slept.shown() == ("hot", "kept hot: keep_hot is set")
    await slept.served.service.edit("one", types.SandboxEdit(keep_hot=False))
    await slept.round(0)
    assert (await slept.shown())[0] == "warm"


async def test_an_attached_terminal_is_told_by_its_name(slept: Slept) -> None:
    await create(slept)
    async with slept.served.http.ws_connect("/sandboxes/one/ws?cmd=cat") as socket:
        session = (await socket.receive_json())["session_id"]
        await slept.round(10_000)
        assert await slept.shown() == ("hot", f"kept hot: terminal {session} is attached")


async def test_a_request_under_way_is_told_by_its_operation(slept: Slept) -> None:
    await create(slept)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: slept.served.http.post("/sandboxes/one/exec", json={"cmd": ["sleep", "60"]}))
        await until(lambda: slept.served.service._ledger.entry(made_id(slept)).visits)
        await slept.round(10_000)
        assert await slept.shown() == ("hot", "kept hot: exec is under way")
        tasks.cancel_scope.cancel()


async def test_a_command_that_uses_the_processor_is_told_by_pid_and_name(slept: Slept) -> None:
    await create(slept)
    link = await slept.served.guest("one")
    left = await link.detach(["sh", "-c", "while :; do :; done"])
    slept.served.service._ledger.touch(made_id(slept))
    await slept.round(31)
    assert await slept.shown() == ("hot", "kept hot: watching whether 1 command used CPU")
    before = (await link.facts()).processes[0].cpu_ms
    while (await link.facts()).processes[0].cpu_ms < before + 50:
        await anyio.lowlevel.checkpoint()
    await slept.round(5)
    assert await slept.shown() == ("hot", f"kept hot: pid {left.pid} (sh) used CPU")
    await link.exec(["kill", "-9", str(left.pid)])


async def test_a_frozen_agent_is_counted_told_and_paused(slept: Slept) -> None:
    made = await create(slept)
    pid = int(made.engine_meta["pid"])
    descriptor = os.pidfd_open(pid)
    signal.pidfd_send_signal(descriptor, signal.SIGSTOP)
    os.close(descriptor)
    await slept.round(30)
    entry = slept.served.service._ledger.entry(made.id)
    assert entry.unanswered == 1
    subject = next(iter(slept.sleeping.running()))
    assert "did not answer (1 of 2 times)" in slept.sleeping.manager.reason(subject, entry.temperature)
    await slept.round(10)
    assert await slept.shown() == ("warm", "cold in 29 min (paused: the agent did not answer 2 times)")


async def test_what_was_warm_before_a_restart_is_warm_until_it_is_called(slept: Slept) -> None:
    await create(slept)
    await slept.round(31)
    slept.served.service._ledger.forget(made_id(slept))
    await slept.sleeping.recover()
    assert await slept.shown() == ("warm", "cold in 30 min")
    await slept.round(60)
    assert (await slept.shown())[0] == "warm"
    assert slept.served.engine.resumes == 0
    assert (await (await slept.served.guest("one")).exec(["true"])).exit_code == 0


async def test_what_other_hands_have_paused_is_not_asked(slept: Slept) -> None:
    made = await create(slept)
    await slept.served.engine.pause(made.id)
    await slept.round(31)
    entry = slept.served.service._ledger.entry(made.id)
    assert (entry.warm, entry.unanswered) == (True, 0)


async def test_the_daemon_puts_to_sleep_by_itself(directory: Path) -> None:
    async with serving(directory, "thermal.warm_after_s=0.1") as served:
        await served.create()
        with anyio.fail_after(60):
            while (await served.service.sandbox("one")).thermal != "warm":
                await anyio.lowlevel.checkpoint()


def made_id(slept: Slept) -> str:
    (record,) = list(slept.served.service._catalogue)
    return record.id


async def until(holds: Callable[[], object]) -> None:
    with anyio.fail_after(60):
        while not holds():
            await anyio.lowlevel.checkpoint()
