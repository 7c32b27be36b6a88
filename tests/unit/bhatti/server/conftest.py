from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.serving import Served, serving, short_directory


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as found:
        yield found


@pytest.fixture
async def served(directory: Path) -> AsyncIterator[Served]:
    async with serving(directory) as found:
        yield found
