import logging
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.serving import Served, serving, short_directory

from bhatti.model.sandbox import Status
from bhatti.operations import types
from bhatti.store.database import Database
from bhatti.store.journal import Journal


@pytest.fixture
def root_logger() -> Iterator[None]:
    """Whatever sets up logging, the next test has what there was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as found:
        yield found


@pytest.fixture
async def served(directory: Path) -> AsyncIterator[Served]:
    async with serving(directory) as found:
        yield found


@pytest.fixture
async def journal(directory: Path) -> AsyncIterator[Journal]:
    """A store without a daemon."""
    database = await Database.open(directory / "state.db")
    yield Journal(database)
    await database.aclose()


async def create(served: Served, **fields: object) -> types.Sandbox:
    return await served.service.create(types.SandboxCreate(**fields), lambda stage: None)  # type: ignore[arg-type]


async def left(served: Served) -> tuple[list[str], list[str], list[str]]:
    """Return what there is of sandboxes: rows that are not destroyed, machines, directories."""
    rows = [row.name for row in await served.journal.sandboxes() if row.status is not Status.DESTROYED]
    machines = [machine.id for machine in await served.engine.list()]
    directory = Path(served.settings.state_dir) / "m"
    return rows, machines, sorted(os.listdir(directory)) if directory.exists() else []  # noqa: PTH208


NOTHING: tuple[list[str], list[str], list[str]] = ([], [], [])
