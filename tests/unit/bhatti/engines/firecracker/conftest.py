"""The real Firecracker for the tests of this folder; none of them needs KVM."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.firecracker import need_firecracker, running

from bhatti.engines.firecracker.api import FirecrackerApi
from bhatti.engines.qemu.process import VmProcess


@pytest.fixture(scope="session")
def firecracker() -> str:
    return need_firecracker()


@pytest.fixture
async def started(firecracker: str, tmp_path: Path) -> AsyncIterator[tuple[VmProcess, FirecrackerApi]]:
    """A Firecracker that has been told nothing yet, its directory `tmp_path`."""
    async with running(firecracker, tmp_path) as found:
        yield found


@pytest.fixture
def api(started: tuple[VmProcess, FirecrackerApi]) -> FirecrackerApi:
    return started[1]
