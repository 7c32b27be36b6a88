from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest
from tests.serving import Served, serving
from tests.unit.bhatti.daemon.test_builds import BASE

from bhatti.daemon.builds import answer as told
from bhatti.daemon.tasks import Job, Tasks
from bhatti.errors import Conflict, LimitExceeded, NotFound, OutOfSpace, Unavailable
from bhatti.model.task import TaskStatus
from bhatti.model.user import ADMIN, Caller
from bhatti.operations import types
from bhatti.store.sandboxes import now
from bhatti.store.tasks import KEPT, TaskRecord

pytestmark = pytest.mark.anyio

IMAGE = told(BASE)
STEP = types.BuildEvent(type="progress", stage="kernel", done=1, total=2)


class Steps:
    """Work that takes a step whenever it is let, until it is told to end."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self._go, self._turns = anyio.create_memory_object_stream[Exception | types.Image | types.BuildEvent](10)

    async def __call__(self, job: Job) -> types.Image:
        self.job = job
        async for turn in self._turns:
            if isinstance(turn, Exception):
                raise turn
            if isinstance(turn, types.Image):
                break
            job.check()
            job.step(turn)
        return IMAGE

    async def let(self, turn: Exception | types.Image | types.BuildEvent) -> None:
        await self._go.send(turn)

    def close(self) -> None:
        self._go.close()
        self._turns.close()


@pytest.fixture
async def steps() -> AsyncIterator[Steps]:
    made = Steps()
    yield made
    made.close()


async def ended(tasks: Tasks, task_id: str) -> types.Task:
    with anyio.fail_after(60):
        last = None
        async for last in tasks.follow(ADMIN, task_id):  # noqa: B007
            pass
    assert last is not None
    return last


async def test_it_goes_on_when_its_caller_has_left_and_is_told_of(served: Served, steps: Steps) -> None:
    tasks = served.service.tasks
    async with anyio.create_task_group() as caller:
        caller.start_soon(tasks.run, "image-build", "base", steps)
        while not tasks.list():  # noqa: ASYNC110 - the store writes it down first
            await anyio.sleep(0.001)
        caller.cancel_scope.cancel()
    (running,) = tasks.list()
    assert (running.kind, running.subject, running.status) == ("image-build", "base", TaskStatus.RUNNING)
    follower = tasks.follow(ADMIN, running.id)
    await anext(follower)
    await steps.let(STEP)
    seen = await anext(follower)
    assert (seen.stage, seen.done, seen.total) == ("kernel", 1, 2)
    await follower.aclose()
    await steps.let(IMAGE)
    done = await ended(tasks, running.id)
    assert (done.status, done.image, done.error) == (TaskStatus.DONE, "base", None)
    assert done.ended_at is not None
    (row,) = await served.journal.tasks.everything()
    assert (row.status, row.image) == (TaskStatus.DONE, "base")


async def test_who_waits_gets_result_steps_and_errors(served: Served, steps: Steps) -> None:
    tasks, seen = served.service.tasks, list[types.BuildEvent]()
    await steps.let(STEP)
    await steps.let(IMAGE)
    assert await tasks.run("image-build", "base", steps, on_progress=seen.append) == IMAGE
    assert seen == [STEP]
    await steps.let(OutOfSpace("no room", hint="make some"))
    with pytest.raises(OutOfSpace, match="no room"):
        await tasks.run("image-build", "base", steps)
    failed = tasks.list()[0]
    assert failed.status is TaskStatus.FAILED
    assert failed.error is not None
    assert (failed.error.code, failed.error.hint) == ("out-of-space", "make some")


async def test_who_waits_is_told_of_the_end_even_if_it_cannot_be_written_down(served: Served, steps: Steps) -> None:
    tasks = served.service.tasks
    job = await tasks.begin("image-build", "base", steps)
    follower = tasks.follow(ADMIN, job.record.id)
    await anext(follower)
    await served.journal._database.aclose()
    await steps.let(IMAGE)
    with anyio.fail_after(60):
        assert (await anext(follower)).status is TaskStatus.DONE
    await follower.aclose()


async def test_a_defect_is_no_secret_and_no_traceback(served: Served, steps: Steps) -> None:
    await steps.let(ZeroDivisionError("secret"))
    job = await served.service.tasks.begin("image-build", "base", steps)
    failed = await ended(served.service.tasks, job.record.id)
    assert failed.error is not None
    assert (failed.error.code, "secret" in failed.error.error) == ("internal", False)


async def test_one_that_is_cancelled_ends_at_its_next_step(served: Served, steps: Steps) -> None:
    tasks = served.service.tasks
    job = await tasks.begin("image-build", "base", steps)
    assert tasks.cancel(ADMIN, job.record.id).cancelling
    assert tasks.cancel(ADMIN, job.record.id).status is TaskStatus.RUNNING
    await steps.let(STEP)
    over = await ended(tasks, job.record.id)
    assert (over.status, over.cancelling) == (TaskStatus.CANCELLED, False)
    assert over.error is not None
    assert over.error.code == "task-cancelled"
    with pytest.raises(Conflict) as caught:
        tasks.cancel(ADMIN, job.record.id)
    assert caught.value.code == "task-over"


async def test_one_that_has_its_result_before_is_done(served: Served, steps: Steps) -> None:
    job = await served.service.tasks.begin("image-build", "base", steps)
    served.service.tasks.cancel(ADMIN, job.record.id)
    await steps.let(IMAGE)
    assert (await ended(served.service.tasks, job.record.id)).status is TaskStatus.DONE


async def test_another_user_s_are_not_there(served: Served, steps: Steps) -> None:
    tasks = served.service.tasks
    job = await tasks.begin("image-build", "base", steps, owner="usr_1")
    anna, bert = Caller(owner="usr_1", name="anna"), Caller(owner="usr_2", name="bert")
    assert [len(tasks.list(caller)) for caller in (ADMIN, anna, bert)] == [1, 1, 0]
    assert tasks.get(anna, job.record.id).id == job.record.id
    with pytest.raises(NotFound) as caught:
        tasks.get(bert, job.record.id)
    assert caught.value.code == "task-not-found"
    await steps.let(IMAGE)
    await ended(tasks, job.record.id)


async def test_a_daemon_that_stops_interrupts_it_and_the_next_one_says_so(directory: Path, steps: Steps) -> None:
    async with serving(directory, "drain_s=0") as served:
        job = await served.service.tasks.begin("image-build", "base", steps)
        waiting = served.service.tasks.follow(ADMIN, job.record.id)
        await anext(waiting)
        served.service.refuse()
        with pytest.raises(Unavailable):
            await anext(waiting)
        with pytest.raises(Unavailable):
            await served.service._jobs.begin("image-build", "base", steps)
        with pytest.raises(Unavailable):
            served.service.tasks.list()
    async with serving(directory) as served:
        assert served.service.tasks.get(ADMIN, job.record.id).status is TaskStatus.INTERRUPTED


async def test_what_a_killed_daemon_left_was_interrupted(directory: Path) -> None:
    left = TaskRecord(id="task_left", kind="image-pull", subject="alpine", begun_at=now())
    async with serving(directory) as served:
        await served.journal.tasks.note(left)
    async with serving(directory) as served:
        (found,) = served.service.tasks.list()
        assert (found.id, found.status) == ("task_left", TaskStatus.INTERRUPTED)
        assert (await ended(served.service.tasks, "task_left")).ended_at is not None


async def test_those_of_yesterday_are_forgotten(served: Served, steps: Steps) -> None:
    tasks = served.service.tasks
    job = await tasks.begin("image-build", "base", steps)
    await steps.let(IMAGE)
    await ended(tasks, job.record.id)
    job.record = msgspec.structs.replace(job.record, ended_at=now() - 2 * KEPT)
    second = await tasks.begin("image-build", "base", steps)
    assert [task.id for task in tasks.list()] == [second.record.id]
    await steps.let(IMAGE)
    await ended(tasks, second.record.id)


async def test_a_user_has_so_many_at_once(served: Served, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bhatti.daemon.tasks.OF_ONE_USER", 1)
    tasks = served.service.tasks
    first = await tasks.begin("image-pull", "app", steps, owner="usr_00000001")
    with pytest.raises(LimitExceeded) as caught:
        await tasks.begin("image-pull", "app", steps, owner="usr_00000001")
    assert caught.value.code == "task-limit"
    await steps.let(IMAGE)
    await ended(tasks, first.record.id)
    await steps.let(IMAGE)
    second = await tasks.begin("image-pull", "app", steps, owner="usr_00000001")
    assert (await ended(tasks, second.record.id)).status is TaskStatus.DONE
