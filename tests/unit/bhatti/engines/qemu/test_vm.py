"""The process of a machine and the connections to it, around a guest that only halts."""

import dataclasses
import os
import signal
from pathlib import Path

import anyio
import pytest
from tests.unit.bhatti.engines.qemu.stub import SPEC, opened

from bhatti.engines.qemu.process import identify
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import Conflict, EngineFailure
from bhatti.model.sandbox import Status

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("qemu", "nobody_waits_for_the_agent")]


async def test_a_broken_monitor_is_connected_to_again(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        await engine.create(SPEC)
        machine = engine._machines["s1"]
        assert machine._monitor is not None
        await machine._monitor.aclose()
        assert await machine._tell("query-name") == {"name": "bhatti-s1"}
        await engine.destroy("s1")


async def test_work_with_a_machine_ends_when_the_machine_does(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        made = await engine.create(SPEC)
        machine = engine._machines["s1"]
        assert made.pid is not None
        os.kill(made.pid, signal.SIGKILL)
        with pytest.raises(EngineFailure, match="SIGKILL"), anyio.fail_after(60):
            await machine._while_alive(anyio.sleep_forever)
        await engine.destroy("s1")


async def test_a_process_that_nobody_wrote_down_is_found_by_what_it_holds(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        made = await engine.create(SPEC)
        machine = engine._machines["s1"]
        assert machine._process is not None
        machine._process.aclose()
        machine._process = None
        await machine._end_process()
        assert identify(made.pid or 0) is None
        await engine.destroy("s1")


async def test_a_machine_of_the_same_id_in_another_directory_is_somebody_else(
    settings: QemuSettings, tmp_path: Path
) -> None:
    elsewhere = dataclasses.replace(settings, state_dir=tmp_path / "state, another")
    async with opened(settings) as engine, opened(elsewhere) as other:
        await engine.create(SPEC)
        theirs = await other.create(SPEC)
        await engine.stop("s1")
        await engine.destroy("s1")  # no process is known of it: what looks like one of its own is looked for
        assert (await other.status("s1")).status is Status.RUNNING
        assert identify(theirs.pid or 0) is not None
        machine = other._machines["s1"]
        assert machine._process is not None
        machine._process.aclose()
        machine._process = None
        await machine._end_process()
        assert identify(theirs.pid or 0) is None
        await other.destroy("s1")


async def test_what_was_let_go_has_no_link_and_can_be_let_go_again(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        made = await engine.create(SPEC)
        machine = engine._machines["s1"]
        for _ in range(2):
            await machine._let_go()
            assert identify(made.pid or 0) is None
        with pytest.raises(Conflict, match="is not running"):
            engine.link("s1")
        await engine.destroy("s1")
