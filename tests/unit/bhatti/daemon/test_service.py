"""The service with a real store and real agents: what is made, what is undone, what is noticed."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from tests.engines.local import LocalEngine
from tests.serving import Served, serving
from tests.unit.bhatti.daemon.conftest import NOTHING, create, left

from bhatti.daemon.service import Service
from bhatti.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from bhatti.model.sandbox import Status
from bhatti.operations import types
from bhatti.store.database import Database
from bhatti.store.journal import Journal

pytestmark = pytest.mark.anyio


async def test_a_sandbox_has_the_variables_of_its_image_under_its_own(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def environment(name: str) -> dict[str, str]:
        return {"FROM_IMAGE": name, "BOTH": "image"}

    monkeypatch.setattr(served.service._images, "environment", environment)
    await create(served, name="one", image="base", env={"BOTH": "sandbox"})
    (row,) = await served.journal.sandboxes()
    assert row.spec.env == {"FROM_IMAGE": "base", "BOTH": "sandbox"}


async def test_a_created_sandbox_runs_and_is_written_down(served: Served) -> None:
    stages: list[str] = []
    made = await served.service.create(types.SandboxCreate(name="one"), stages.append)
    assert stages == ["layer", "boot", "agent"]
    assert (made.name, made.status, made.ip) == ("one", Status.RUNNING, "127.0.0.1")
    assert await served.journal.intents() == []
    assert [row.status for row in await served.journal.sandboxes()] == [Status.RUNNING]
    link = await served.guest("one")
    assert (await link.exec(["echo", "hello"])).stdout == b"hello\n"


async def test_a_destroyed_sandbox_is_gone_with_all_it_had(served: Served) -> None:
    made = await served.create()
    pid = int(made.engine_meta["pid"])
    await served.service.destroy("one")
    assert await left(served) == NOTHING
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    for use in (served.service.sandbox, served.guest, served.service.destroy):
        with pytest.raises(NotFound) as caught:
            await use("one")
        assert caught.value.code == "sandbox-destroyed"


async def test_a_death_is_noticed_by_whoever_looks(served: Served) -> None:
    made = await served.create()
    await kill(made)
    (listed,) = await served.service.sandboxes()
    assert listed.status is Status.FAILED
    shown = await served.service.sandbox("one")
    assert shown.cause is not None
    assert "-9" in shown.cause.detail
    with pytest.raises(Conflict, match="has failed") as caught:
        await served.guest("one")
    assert caught.value.code == "not-running"
    assert [event.kind for event in await served.journal.events()] == ["created", "failed"]
    await served.service.destroy("one")
    assert await left(served) == NOTHING


async def test_a_death_is_noticed_by_whoever_wants_in(served: Served) -> None:
    made = await served.create()
    await kill(made)
    with pytest.raises(Conflict, match="has failed"):
        await served.guest("one")


async def test_a_lost_connection_is_explained_by_the_death_behind_it(served: Served) -> None:
    made = await served.create()
    lost = Unavailable("lost the connection")
    assert await served.service.explain("one", lost) is lost
    assert await served.service.explain("one", KeyError("x")) is not lost
    await kill(made)
    told = await served.service.explain("one", lost)
    assert isinstance(told, Conflict)
    await served.service.destroy("one")
    assert isinstance(await served.service.explain("one", lost), NotFound)


async def kill(made: types.Sandbox) -> None:
    """Kill a machine from outside and wait until it is dead."""
    descriptor = os.pidfd_open(int(made.engine_meta["pid"]))
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    await anyio.wait_readable(descriptor)
    os.close(descriptor)


async def test_a_machine_that_its_engine_lost_is_a_failure_with_a_cause(served: Served) -> None:
    made = await served.create()
    await served.engine.destroy(made.id)
    shown = await served.service.sandbox("one")
    assert shown.status is Status.FAILED
    assert shown.cause is not None
    assert shown.cause.kind == "host-crash"
    await served.service.destroy("one")
    assert await left(served) == NOTHING


async def test_until_recovery_is_over_only_health_and_version_answer(directory: Path) -> None:
    async with serving(directory, start=False) as served:
        assert served.service.health().status == "starting"
        assert served.service.version().version == "0.0-test"
        assert served.service.version().can is None
        calls = (
            served.create,
            served.service.sandboxes,
            lambda: served.service.sandbox("x"),
            lambda: served.service.destroy("x"),
        )
        for call in calls:
            with pytest.raises(Unavailable) as caught:
                await call()
            assert caught.value.code == "starting"
        await served.service.start(served.journal, served.engine)
        assert served.service.health().status == "ok"
        await served.create()
        assert served.service.health().sandboxes == 1


async def test_the_next_daemon_takes_the_sandboxes_over(directory: Path) -> None:
    async with serving(directory) as first:
        made = await first.create()
        await first.engine.aclose()
        async with serving_again(first) as service:
            assert [found.id for found in await service.sandboxes()] == [made.id]
            async with service.visit("one", "a test is under way") as visitor:
                assert (await visitor.link.exec(["true"])).exit_code == 0


@contextlib.asynccontextmanager
async def serving_again(first: Served) -> AsyncIterator[Service]:
    """Another service over the same store and machines, as after a restart."""
    database = await Database.open(first.settings.database)
    async with anyio.create_task_group() as tasks, LocalEngine(Path(first.settings.state_dir)) as engine:
        service = Service(first.settings, "next", tasks)
        await service.start(Journal(database), engine)
        yield service
        tasks.cancel_scope.cancel()
    await database.aclose()


async def test_stopping_refuses_new_requests_and_leaves_the_machines(served: Served) -> None:
    await served.create()
    await served.service.stop()
    assert served.service.health().status == "stopping"
    with pytest.raises(Unavailable) as caught:
        await served.service.sandboxes()
    assert caught.value.code == "stopping"
    assert len(await served.engine.list()) == 1


async def test_stopping_ends_the_machines_when_told_to(directory: Path) -> None:
    async with serving(directory, "stop_all=true") as served:
        await served.create("one")
        await served.create("two")
        await served.service.stop()
        assert await left(served) == NOTHING


async def test_an_image_that_is_used_cannot_be_removed(served: Served) -> None:
    await served.create()
    with pytest.raises(Conflict, match="used by one") as caught:
        await served.service.remove_image("base")
    assert caught.value.code == "image-in-use"
    await served.service.destroy("one")
    with pytest.raises(NotFound):
        await served.service.remove_image("base")


async def test_images_and_the_doctor_answer(served: Served) -> None:
    assert await served.service.images() == []
    with pytest.raises(InvalidRequest):
        await served.service.build_image(types.ImageBuild(name="other"), lambda event: None)
    assert (await served.service.doctor()).checks


async def test_a_stopped_sandbox_is_started_with_everything_where_it_was(served: Served) -> None:
    made = await create(served, name="one")
    stopped = await served.service.stop_sandbox("one")
    assert (stopped.status, stopped.thermal, stopped.ip) == ("stopped", "cold", None)
    assert stopped.stopped_at is not None
    assert [row.status for row in await served.journal.sandboxes()] == [Status.STOPPED]
    started = await served.service.start_sandbox("one")
    assert (started.status, started.how, started.stopped_at) == ("running", "restored", None)
    assert started.engine_meta["pid"] == made.engine_meta["pid"]
    assert [event.kind for event in await served.journal.events()][-2:] == ["stopped", "started"]


async def test_a_sleeping_sandbox_is_woken_once_by_all_who_want_in(served: Served) -> None:
    await create(served, name="one")
    await served.service.stop_sandbox("one")
    outputs: list[bytes] = []

    async def want_in() -> None:
        outputs.append((await (await served.guest("one")).exec(["echo", "awake"])).stdout)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(want_in)
    assert outputs == [b"awake\n"] * 20
    assert served.engine.starts == 1


async def test_stopping_twice_and_starting_what_runs_are_conflicts_that_name_what_is_possible(served: Served) -> None:
    await create(served, name="one")
    with pytest.raises(Conflict, match="cannot start") as caught:
        await served.service.start_sandbox("one")
    assert caught.value.hint == "possible now: destroy, stop"
    await served.service.stop_sandbox("one")
    with pytest.raises(Conflict, match="cannot stop") as caught:
        await served.service.stop_sandbox("one")
    assert caught.value.code == "illegal-transition"
    await served.service.destroy("one")
    assert await left(served) == NOTHING
    for use in (served.service.stop_sandbox, served.service.start_sandbox):
        with pytest.raises(NotFound):
            await use("one")
