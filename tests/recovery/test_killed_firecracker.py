"""Firecracker is killed at each step of creating, stopping and starting a sandbox, whose guest only halts."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from tests.conformance.leftovers import traces_of
from tests.unit.bhatti.engines.firecracker.stub import opened, settings_of
from tests.unit.bhatti.engines.qemu.stub import SPEC, nothing_is_left

from bhatti.engines.firecracker.api import FirecrackerApi
from bhatti.engines.firecracker.engine import FirecrackerEngine
from bhatti.errors import Conflict, EngineFailure
from bhatti.model.sandbox import Status

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FirecrackerEngine]:
    settings = settings_of(tmp_path)
    async with opened(settings) as engine:
        yield engine
    assert await nothing_is_left(settings)


def kill_at(patches: pytest.MonkeyPatch, engine: FirecrackerEngine, moment: str, order: str) -> None:
    """Have Firecracker killed once, before or after it is given the order."""
    exchange = FirecrackerApi._exchange
    killed = False

    async def kill_if(now: str) -> None:
        nonlocal killed
        if now == f"{moment} {order}" and not killed:
            killed = True
            process = engine._machines["s1"]._process
            assert process is not None
            os.kill(process.identity.pid, signal.SIGKILL)
            with anyio.CancelScope(shield=True):
                await process.wait()

    async def deadly(api: FirecrackerApi, method: str, path: str, body: bytes, timeout_s: float) -> bytes:
        await kill_if(f"before {method} {path}")
        answer = await exchange(api, method, path, body, timeout_s)
        await kill_if(f"after {method} {path}")
        return answer

    patches.setattr(FirecrackerApi, "_exchange", deadly)


@pytest.mark.parametrize(
    ("moment", "order"),
    [
        ("before", "GET /"),
        ("before", "PUT /boot-source"),
        ("before", "PUT /machine-config"),
        ("before", "PUT /drives/vda"),
        ("before", "PUT /drives/vdd"),
        ("before", "PUT /network-interfaces/eth0"),
        ("before", "PUT /entropy"),
        ("after", "PUT /entropy"),
        ("after", "PUT /actions"),
    ],
)
async def test_killed_while_a_sandbox_is_created_it_leaves_nothing_and_can_be_asked_again(
    engine: FirecrackerEngine, monkeypatch: pytest.MonkeyPatch, moment: str, order: str
) -> None:
    with monkeypatch.context() as patches:
        kill_at(patches, engine, moment, order)
        with pytest.raises(EngineFailure, match="firecracker was killed by SIGKILL") as failure:
            await engine.create(SPEC)
    assert failure.value.code == "boot-failed"
    assert await engine.list() == []
    left = await traces_of(engine.settings)
    assert (left.processes, left.files, left.taps) == (frozenset(), frozenset(), frozenset())
    assert (await engine.create(SPEC)).status is Status.RUNNING


@pytest.mark.parametrize("times_stopped", [0, 1])
@pytest.mark.parametrize(
    ("moment", "order"),
    [("before", "PATCH /vm"), ("before", "PUT /snapshot/create"), ("after", "PUT /snapshot/create")],
)
async def test_killed_while_it_is_stopped_a_sandbox_has_failed_with_the_reason_and_has_its_disk(
    engine: FirecrackerEngine, monkeypatch: pytest.MonkeyPatch, moment: str, order: str, times_stopped: int
) -> None:
    await engine.create(SPEC)
    for _ in range(times_stopped):
        await engine.stop("s1")
        await engine.start("s1", require_memory=True)
    with monkeypatch.context() as patches:
        kill_at(patches, engine, moment, order)
        with pytest.raises(EngineFailure) as failure:
            await engine.stop("s1")
    assert failure.value.code == "died-stopping"
    found = await engine.status("s1")
    assert found.status is Status.FAILED
    assert found.cause is not None
    assert (found.cause.kind, found.cause.detail) == ("killed", "firecracker was killed by SIGKILL")
    with pytest.raises(Conflict, match="it had died") as refusal:
        await engine.start("s1", require_memory=True)
    assert refusal.value.code == "memory-lost"
    assert (await engine.start("s1")).how == "disk-boot"


@pytest.mark.parametrize(
    ("moment", "order"), [("before", "GET /"), ("before", "PUT /snapshot/load"), ("after", "PUT /snapshot/load")]
)
async def test_killed_before_it_ran_on_a_sandbox_keeps_its_memory_for_the_next_start(
    engine: FirecrackerEngine, monkeypatch: pytest.MonkeyPatch, moment: str, order: str
) -> None:
    await engine.create(SPEC)
    await engine.stop("s1")
    with monkeypatch.context() as patches:
        kill_at(patches, engine, moment, order)
        with pytest.raises(Conflict, match="firecracker was killed by SIGKILL") as refusal:
            await engine.start("s1", require_memory=True)
    assert refusal.value.code == "memory-lost"
    assert (await engine.status("s1")).status is Status.STOPPED
    assert (await engine.start("s1", require_memory=True)).how == "restored"


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_killed_when_it_may_have_run_on_a_sandbox_boots_from_its_disk_and_says_why(
    engine: FirecrackerEngine, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    await engine.create(SPEC)
    await engine.stop("s1")
    with monkeypatch.context() as patches:
        kill_at(patches, engine, moment, "PATCH /vm")
        with pytest.raises(Conflict):
            await engine.start("s1", require_memory=True)
    assert (await engine.status("s1")).status is Status.STOPPED
    with pytest.raises(Conflict, match="its memory snapshot is spent"):
        await engine.start("s1", require_memory=True)
    started = await engine.start("s1")
    assert (started.how, "spent" in started.why) == ("disk-boot", True)
