"""Fixtures that every test may use."""

import pytest
from hypothesis import HealthCheck, settings

# A busy machine makes any example slow now and then; the timeout of each test bounds them all together.
settings.register_profile("bhatti", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bhatti")

pytest_plugins = ["tests.dockerd"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
