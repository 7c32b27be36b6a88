"""Fixtures that every test may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine makes any example slow now and then; the timeout of each test bounds them all together.
settings.register_profile("bhatti", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bhatti")

pytest_plugins = ["tests.dockerd"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def outputs_of_detached_commands() -> Iterator[None]:
    """Remove what commands on this host's agents left that were detached without saying where their output goes."""

    def found() -> set[Path]:
        return set(Path("/tmp").glob("bhatti-detach-*.log"))

    before = found()
    yield
    for path in found() - before:
        path.unlink(missing_ok=True)
