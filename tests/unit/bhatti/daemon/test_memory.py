from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest
from tests.serving import Served, serving
from tests.unit.bhatti.daemon.conftest import create
from tests.unit.bhatti.store.rows import record

from bhatti.daemon.memory import MemoryBudget, host_memory_mib
from bhatti.daemon.settings import Limits
from bhatti.errors import LimitExceeded
from bhatti.model.sandbox import Status
from bhatti.operations import types
from bhatti.store.sandboxes import Record

pytestmark = pytest.mark.anyio

EACH_MIB = 512
ROOM_FOR = 2


@pytest.fixture
async def small(directory: Path) -> AsyncIterator[Served]:
    """A daemon that may promise as much as two sandboxes of the usual size want, and a little."""
    share = (ROOM_FOR * EACH_MIB + EACH_MIB / 2) / host_memory_mib()
    async with serving(directory, f"limits.memory_overcommit={share}") as found:
        yield found


async def names(served: Served) -> list[str]:
    return sorted(found.name for found in await served.service.sandboxes())


async def test_of_many_that_are_created_at_once_as_many_come_up_as_there_is_memory_for(small: Served) -> None:
    refused: list[LimitExceeded] = []

    async def one(number: int) -> None:
        try:
            await create(small, name=f"s{number}")
        except LimitExceeded as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(one, number)
    assert len(await names(small)) == ROOM_FOR
    assert len(refused) == 6 - ROOM_FOR
    assert {error.code for error in refused} == {"host-memory"}
    assert f"this host has {host_memory_mib()} MiB" in refused[0].message
    assert "bhatti stop NAME" in str(refused[0].hint)
    assert await small.journal.intents() == []


async def test_one_that_is_stopped_or_removed_gives_its_memory_back(small: Served) -> None:
    for name in ("one", "two"):
        await create(small, name=name)
    await small.service.stop_sandbox("one")
    await create(small, name="three")
    with pytest.raises(LimitExceeded) as caught:
        await small.service.start_sandbox("one")
    assert caught.value.code == "host-memory"
    assert (await small.service.sandbox("one")).status is Status.STOPPED
    await small.service.destroy("three")
    await small.service.start_sandbox("one")


async def test_a_call_does_not_wake_what_there_is_no_memory_for(small: Served) -> None:
    await create(small, name="one")
    await small.service.stop_sandbox("one")
    for name in ("two", "three"):
        await create(small, name=name)
    with pytest.raises(LimitExceeded, match="'one'"):
        await small.guest("one")
    await small.service.pause_sandbox("two")
    with pytest.raises(LimitExceeded):
        await small.guest("one")
    await small.service.stop_sandbox("two")
    assert (await (await small.guest("one")).exec(["echo", "awake"])).stdout == b"awake\n"


async def test_a_fork_and_the_way_back_to_a_checkpoint_are_counted_too(small: Served) -> None:
    await create(small, name="one")
    await small.service.checkpoint("one", "kept")
    await create(small, name="two")
    with pytest.raises(LimitExceeded):
        await small.service.fork("one", types.SandboxFork(), lambda stage: None)
    await small.service.stop_sandbox("one")
    await create(small, name="three")
    with pytest.raises(LimitExceeded):
        await small.service.restore_checkpoint("one", "kept")
    assert await names(small) == ["one", "three", "two"]


def row(sandbox_id: str, status: Status) -> Record:
    return msgspec.structs.replace(record(sandbox_id), status=status)


def test_what_runs_is_made_or_is_ready_counts_and_nothing_else() -> None:
    each = record().spec.memory_mib
    rows = [row(f"a{number}", status) for number, status in enumerate(Status)]
    budget = MemoryBudget(Limits(memory_overcommit=2.0), 2 * each, lambda: rows, lambda: each)
    assert budget.bound_mib == 4 * each
    assert budget.promised_mib() == 3 * each
    running = next(row for row in rows if row.status is Status.RUNNING)
    asleep = next(row for row in rows if row.status is Status.STOPPED)
    assert budget.promised_mib(besides=running.id) == 2 * each
    with budget.promised(asleep):
        assert budget.promised_mib() == 4 * each
        with pytest.raises(LimitExceeded):
            budget.check(row("b0", Status.CREATING))
        budget.check(running)
    assert budget.promised_mib() == 3 * each
