"""Loading a state for a try. The good case is in test_sleep; here is what cannot be loaded."""

import dataclasses
import os
from pathlib import Path

import pytest
from tests.unit.bhatti.engines.qemu.test_migration import hardware as hardware
from tests.unit.bhatti.engines.qemu.test_migration import saved

from bhatti.engines.qemu.command import Hardware
from bhatti.engines.qemu.files import MachineFiles
from bhatti.engines.qemu.probe import probe_state

pytestmark = pytest.mark.anyio


def left_over(directory: Path) -> list[str]:
    return [path.name for path in directory.glob("probe.*")]


@pytest.mark.parametrize("with_memory", [False, True])
async def test_a_good_state_has_no_fault(hardware: Hardware, tmp_path: Path, with_memory: bool) -> None:
    await saved(hardware, tmp_path, with_memory=with_memory)
    waiting = dataclasses.replace(hardware, incoming=True)
    assert await probe_state(waiting, MachineFiles(tmp_path), with_memory=with_memory) is None
    assert left_over(tmp_path) == []


async def test_a_broken_state_is_reported_and_nothing_is_left(hardware: Hardware, tmp_path: Path) -> None:
    state = await saved(hardware, tmp_path, with_memory=False)
    os.truncate(state, state.stat().st_size // 3)
    fault = await probe_state(dataclasses.replace(hardware, incoming=True), MachineFiles(tmp_path), with_memory=False)
    assert fault is not None
    assert fault.startswith("it cannot be loaded: ")
    assert left_over(tmp_path) == []
