import json
import os
import signal
from pathlib import Path

import anyio
import msgspec
import pytest
from tests.engines.fake import machine
from tests.engines.local import LocalEngine
from tests.serving import Served, serving
from tests.unit.bhatti.store.rows import record

from bhatti.daemon.following import become
from bhatti.daemon.recovery import last_words
from bhatti.engines.base import Machine
from bhatti.model.sandbox import Status
from bhatti.operations import types
from bhatti.store.sandboxes import LastWords, Record

pytestmark = pytest.mark.anyio


async def kill(machine: types.Sandbox) -> None:
    """Kill the process of a machine, and wait for its end."""
    descriptor = os.pidfd_open(int(machine.engine_meta["pid"]))
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    await anyio.wait_readable(descriptor)
    os.close(descriptor)


async def test_a_death_that_the_engine_hears_of_is_told_though_nobody_looks(served: Served) -> None:
    made, other = await served.create(), await served.create("two")
    async with served.http.get("/events", params={"follow": "true"}) as news:
        for told in ("none-of-ours", other.id):  # which runs
            served.engine.deaths.died(told)
        await kill(made)
        with served.service.claims.hold(made.id, "stop"):  # whoever gave the order is told
            served.engine.deaths.died(made.id)
            await anyio.wait_all_tasks_blocked()
        served.engine.deaths.died(made.id)
        while (found := json.loads(await news.content.readline()))["type"] == "alive":
            pass
    assert (found["event"]["sandbox_id"], found["event"]["kind"]) == (made.id, "failed")
    assert (await served.service.sandbox("two")).status is Status.RUNNING


async def test_a_death_that_cannot_be_written_down_does_not_end_the_daemon(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await served.create()

    async def status(sandbox_id: str) -> Machine:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(served.engine, "status", status)
        served.engine.deaths.died(made.id)
        await anyio.wait_all_tasks_blocked()
    assert "which could not be written down" in caplog.text
    assert (await served.service.sandbox("one")).status is Status.RUNNING
    served.service.refuse()
    served.engine.deaths.died(made.id)  # nobody listens any more


async def test_a_death_is_written_down_unless_an_order_is_at_work(served: Served) -> None:
    made = await served.create()
    following = served.service._following
    record, machine = await following.look(served.service._catalogue.find(made.id))
    assert (record.status, machine is not None) == (Status.RUNNING, True)
    await kill(made)
    with served.service.claims.hold(made.id, "stop"):
        assert (await following.look(record))[0].status is Status.RUNNING
    dead, _ = await following.look(record)
    assert dead.status is Status.FAILED
    assert [row.status for row in await served.journal.sandboxes()] == [Status.FAILED]
    events = len(await served.journal.events())
    await following.look(record)
    assert len(await served.journal.events()) == events


async def test_a_machine_that_nobody_has_is_a_failure(served: Served) -> None:
    made = await served.create()
    await served.engine.destroy(made.id)
    record, machine = await served.service._following.look(served.service._catalogue.find(made.id))
    assert machine is None
    assert record.cause is not None
    assert (record.status, record.cause.detail) == (Status.FAILED, "its machine is gone")


async def test_what_was_seen_before_an_order_came_to_its_end_is_not_believed(served: Served) -> None:
    made = await served.create()
    await served.service.stop_sandbox(made.id)
    asleep = served.service._catalogue.find(made.id)
    seen = await served.engine.status(made.id)
    assert seen.status is Status.STOPPED
    await served.service.start_sandbox(made.id)
    assert (await served.service._following.follow(asleep, seen)).status is Status.RUNNING
    assert (await served.service.sandbox(made.id)).status is Status.RUNNING


class SlowlyListed(LocalEngine):
    """An engine whose list is as old as somebody likes by the time it is returned."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.looked = anyio.Event()
        self.returns = anyio.Event()
        self.returns.set()

    async def list(self) -> list[Machine]:
        found = await super().list()
        self.looked.set()
        await self.returns.wait()
        return found


async def test_a_sandbox_made_or_woken_while_all_are_listed_is_not_taken_for_dead(directory: Path) -> None:
    async with serving(directory, engine_type=SlowlyListed) as served:
        assert isinstance(served.engine, SlowlyListed)
        woken = await served.create("woken")
        await served.service.stop_sandbox(woken.id)
        gone = await served.create("gone")
        served.engine.looked, served.engine.returns = anyio.Event(), anyio.Event()
        listed: list[str] = []

        async def list_them() -> None:
            listed.extend(sandbox.name for sandbox in await served.service.sandboxes())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(list_them)
            await served.engine.looked.wait()
            made = await served.create("made")
            await served.service.start_sandbox(woken.id)
            await served.service.destroy(gone.id)
            served.engine.returns.set()
        assert listed == ["woken"]
        rows = {row.id: row.status for row in await served.journal.sandboxes()}
        assert rows == {woken.id: Status.RUNNING, made.id: Status.RUNNING, gone.id: Status.DESTROYED}


SHOT = LastWords(kind="killed", detail="it was killed by SIGKILL", console_tail="bye")
DEAD = machine("aa", Status.FAILED, "it panicked")


@pytest.mark.parametrize(
    ("row", "found", "expected"),
    [
        (record("aa"), machine("aa"), None),
        (record("aa"), machine("aa", Status.STOPPED), (Status.STOPPED, None)),
        (record("aa"), DEAD, (Status.FAILED, "it panicked")),
        (record("aa"), None, (Status.FAILED, "its machine is gone")),
        (record("aa", status=Status.STOPPED), None, None),
        (record("aa", status=Status.STOPPED), machine("aa"), None),
    ],
)
def test_a_row_becomes_what_its_machine_is(
    row: Record, found: Machine | None, expected: tuple[Status, str | None] | None
) -> None:
    now = become(row, found)
    assert (now and (now.status, now.cause and now.cause.detail)) == expected


def test_more_may_be_known_of_a_death_later() -> None:
    row = msgspec.structs.replace(record("aa", status=Status.FAILED), cause=SHOT)
    better = become(row, DEAD)
    assert better is not None
    assert better.cause == last_words(DEAD, "")
    for found in (DEAD, None, machine("aa"), machine("aa", Status.STOPPED), machine("aa", Status.FAILED)):
        assert become(better, found) is None
