"""Fixtures that every test may use."""

import pytest

pytest_plugins = ["tests.dockerd"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
