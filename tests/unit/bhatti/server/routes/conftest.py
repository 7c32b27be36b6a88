from collections.abc import AsyncIterator

import pytest
from tests.serving import Served, serving, short_directory


@pytest.fixture(scope="module")
async def served() -> AsyncIterator[Served]:
    """A daemon with one sandbox, called `one`, for all tests of a module: they use it and leave it as it was."""
    with short_directory() as directory:
        async with serving(directory) as found:
            await found.create("one")
            yield found


@pytest.fixture
async def own() -> AsyncIterator[Served]:
    """The same, for one test alone."""
    with short_directory() as directory:
        async with serving(directory) as found:
            await found.create("one")
            yield found
