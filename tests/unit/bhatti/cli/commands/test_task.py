import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from anyio import to_thread
from tests.serving import Served, serving, short_directory
from tests.unit.bhatti.cli.conftest import Done, ended
from tests.unit.bhatti.daemon.test_builds import Store
from tests.unit.bhatti.daemon.test_tasks import IMAGE, STEP, Steps

from bhatti.daemon import builds
from bhatti.daemon.builds import RecordedImages
from bhatti.errors import OutOfSpace

pytestmark = pytest.mark.anyio

Bhatti = Callable[..., Awaitable[Done]]


@pytest.fixture
async def own() -> AsyncIterator[Served]:
    """A daemon in this process, so that tests can begin tasks of their own."""
    with short_directory() as directory:
        async with serving(directory) as found:
            yield found


@pytest.fixture
def bhatti(
    own: Served, environment: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Bhatti:
    """Run the command line in a thread, against that daemon."""
    monkeypatch.setenv("BHATTI_URL", str(own.endpoint))

    async def called(*arguments: str) -> Done:
        return await to_thread.run_sync(lambda: ended(capfd, *arguments))

    return called


async def test_a_task_is_listed_shown_and_waited_for(own: Served, bhatti: Bhatti) -> None:
    steps = Steps()
    job = await own.service.tasks.begin("image-pull", "alpine:3.19", steps)
    await steps.let(STEP)
    task = job.record.id
    assert (await bhatti("task", "ls", "-q")).out == f"{task}\n"
    heading, line = (await bhatti("task", "ls")).out.splitlines()
    assert heading.split() == ["ID", "KIND", "SUBJECT", "STATUS", "STAGE", "AGE"]
    assert line.split()[:7] == [task, "image-pull", "alpine:3.19", "running", "kernel", "50", "%"]
    shown = (await bhatti("task", "inspect", task)).out
    assert [text.split()[0] for text in shown.splitlines()] == ["id", "kind", "subject", "status", "stage", "begun"]
    await steps.let(IMAGE)
    assert (await bhatti("task", "wait", task)).out == "base\n"
    assert (await bhatti("task", "wait", "-q", task)).out == ""
    assert json.loads((await bhatti("task", "inspect", task[:-4], "--json")).out)["image"] == "base"
    assert "image    base" in (await bhatti("task", "inspect", task)).out
    assert (await bhatti("task", "cancel", task)).code == 5
    assert (await bhatti("task", "inspect", "task_none")).code == 4
    steps.close()


async def test_a_task_that_failed_or_was_cancelled_fails_who_waits(own: Served, bhatti: Bhatti) -> None:
    steps = Steps()
    job = await own.service.tasks.begin("image-pull", "alpine:3.19", steps)
    await steps.let(OutOfSpace("no room", hint="make some"))
    failed = await bhatti("task", "wait", job.record.id)
    assert (failed.code, failed.err.splitlines()[-1]) == (74, "hint: make some")
    assert "no room" in (await bhatti("task", "inspect", job.record.id)).out
    job = await own.service.tasks.begin("image-pull", "alpine:3.19", steps)
    assert (await bhatti("task", "cancel", job.record.id)).out == "cancelling\n"
    assert "cancelling" in (await bhatti("task", "ls")).out
    await steps.let(STEP)
    assert (await bhatti("task", "wait", job.record.id)).code == 5
    steps.close()


async def test_an_image_is_made_while_nobody_waits(
    own: Served, bhatti: Bhatti, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Quick(Store):
        def __init__(self, directory: object) -> None:
            self.__dict__.update(vars(Store(directory)))  # type: ignore[arg-type]
            self.go_on.set()

    monkeypatch.setattr(builds, "ImageStore", Quick)
    own.service._images = RecordedImages(own.settings, own.service._orders, own.service.watch)
    begun = (await bhatti("image", "build", "--detach")).out.strip()
    assert begun.startswith("task_")
    assert (await bhatti("task", "wait", begun)).out == "base\n"
    for arguments in (["pull", "Not A Name"], ["import", "nonsense"]):
        assert (await bhatti("image", *arguments, "--detach")).code == 2
