import threading
from pathlib import Path

import anyio
import pytest
from tests.serving import Served, serving
from tests.unit.bhatti.daemon.test_builds import Store, store_of

from bhatti.daemon import builds
from bhatti.daemon.builds import RecordedImages
from bhatti.daemon.imaging import Imaging
from bhatti.daemon.service import Service
from bhatti.daemon.tasks import Tasks
from bhatti.errors import InvalidRequest, NotFound, Unavailable
from bhatti.images.artefacts import Progress
from bhatti.images.store import Image
from bhatti.model.task import TaskStatus
from bhatti.model.user import ADMIN
from bhatti.operations import types

pytestmark = pytest.mark.anyio


async def ended(tasks: Tasks, task_id: str) -> types.Task:
    with anyio.fail_after(60):
        found = [task async for task in tasks.follow(ADMIN, task_id)]
    return found[-1]


class Endless(Store):
    """Builds for as long as it is let, in many steps."""

    stopped = threading.Event()

    def build(self, name: str, *, refresh: bool, progress: Progress) -> Image:
        try:
            while not self.go_on.wait(0.001):
                progress("kernel", 1, 2)
        finally:
            self.stopped.set()
        return super().build(name, refresh=refresh, progress=progress)


@pytest.fixture
def endless(served: Served, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(builds, "ImageStore", Endless)
    images = served.service._images = RecordedImages(served.settings, served.service._orders, served.service.watch)
    return store_of(images)


async def test_making_an_image_is_a_task_that_can_be_waited_for(served: Served, endless: Store) -> None:
    begun = await served.service.start_task(types.TaskStart(build=types.ImageBuild()))
    assert (begun.kind, begun.subject, begun.status) == ("image-build", "base", TaskStatus.RUNNING)
    endless.go_on.set()
    assert (await ended(served.service.tasks, begun.id)).image == "base"
    kinds = [event.kind for event in await served.service.watch.events(types.EventsQuery())]
    assert "image-built" in kinds


async def test_a_thread_that_makes_an_image_ends_when_its_task_is_cancelled(served: Served, endless: Store) -> None:
    begun = await served.service.start_task(types.TaskStart(build=types.ImageBuild()))
    served.service.tasks.cancel(ADMIN, begun.id)
    assert (await ended(served.service.tasks, begun.id)).status is TaskStatus.CANCELLED
    assert Endless.stopped.is_set()


@pytest.mark.parametrize(
    "request_",
    [
        types.TaskStart(),
        types.TaskStart(build=types.ImageBuild(), pull=types.ImagePull(reference="alpine")),
        types.TaskStart(pull=types.ImagePull(reference="Not A Name")),
        types.TaskStart(import_=types.ImageImport(source="nonsense")),
    ],
)
async def test_what_cannot_be_begun_is_told_at_once(served: Served, request_: types.TaskStart) -> None:
    with pytest.raises(InvalidRequest):
        await served.service.start_task(request_)
    assert served.service.tasks.list() == []


async def test_images_are_looked_after_once_the_daemon_serves(directory: Path) -> None:
    assert issubclass(Service, Imaging)
    async with serving(directory, start=False) as served:
        with pytest.raises(Unavailable):
            await served.service.remove_image("none")
        with pytest.raises(Unavailable):
            await served.service.prune_images()
    async with serving(directory) as served:
        assert await served.service.images() == []
        with pytest.raises(NotFound):
            await served.service.remove_image("none")
