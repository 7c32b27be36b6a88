"""Fixtures that every test may use."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from bhatti import paths
from bhatti.images.store import ImageStore

# A busy machine makes any example slow now and then; the timeout of each test bounds them all together.
settings.register_profile("bhatti", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bhatti")

pytest_plugins = ["tests.dockerd"]

PATIENCE = "BHATTI_TEST_PATIENCE"
"""By how much the timeouts that tests ask for are multiplied: in the lab, say, where a guest boots for a minute."""


def pytest_configure() -> None:
    """Clean up when told to end, also where a background job of a shell was told to ignore interrupts.

    What the tests start would inherit that, and could not be interrupted either.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have patience."""
    factor = float(os.environ.get(PATIENCE, "1"))
    for item in items if factor != 1 else ():
        asked = item.get_closest_marker("timeout")
        if asked is not None and asked.args:
            item.add_marker(pytest.mark.timeout(asked.args[0] * factor), append=False)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def images_dir() -> Path:
    """The images of `bhatti image build`, made now if they are missing or older than our agent."""
    directory = Path(paths.images_dir())
    ImageStore(directory).build()
    return directory


@pytest.fixture(scope="session", autouse=True)
def outputs_of_detached_commands() -> Iterator[None]:
    """Remove what commands on this host's agents left that were detached without saying where their output goes."""

    def found() -> set[Path]:
        return set(Path("/tmp").glob("bhatti-detach-*.log"))

    before = found()
    yield
    for path in found() - before:
        path.unlink(missing_ok=True)
