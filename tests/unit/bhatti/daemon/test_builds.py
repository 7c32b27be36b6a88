import datetime
import threading
from pathlib import Path

import anyio
import pytest
from tests.serving import settings_in

from bhatti.daemon import builds
from bhatti.daemon.builds import Images, answer
from bhatti.errors import InvalidRequest, NotFound
from bhatti.images.artefacts import Progress
from bhatti.images.store import Image
from bhatti.operations import types

pytestmark = pytest.mark.anyio

BASE = Image(
    name="base",
    digest="sha256:00",
    size_bytes=1 << 30,
    stored_bytes=1 << 28,
    created_at=0.0,
    kernel="6.1.0",
    source="Debian bookworm",
)


class Store:
    """Stands in for minutes of debootstrap: builds in two steps, the second when it is let."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.go_on = threading.Event()
        self.finished = threading.Event()

    def build(self, name: str, *, refresh: bool, progress: Progress) -> Image:
        progress("kernel", 1, 2)
        self.go_on.wait(10)
        progress("kernel", 2, 2)
        self.finished.set()
        return BASE


@pytest.fixture
def images(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    monkeypatch.setattr(builds, "ImageStore", Store)
    return Images(settings_in(directory))


def store_of(images: Images) -> Store:
    store = images._store
    assert isinstance(store, Store)
    return store


def test_an_image_is_told_in_the_words_of_the_api() -> None:
    assert answer(BASE) == types.Image(
        name="base",
        digest="sha256:00",
        size_bytes=1 << 30,
        stored_bytes=1 << 28,
        created_at=datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC),
        kernel="6.1.0",
        source="Debian bookworm",
    )


async def test_progress_comes_on_the_loop_while_the_build_goes_on_beside_it(images: Images) -> None:
    loop_thread = threading.get_ident()
    seen: list[types.BuildEvent] = []

    def on_progress(event: types.BuildEvent) -> None:
        assert threading.get_ident() == loop_thread
        seen.append(event)
        store_of(images).go_on.set()

    made = await images.build(types.ImageBuild(), on_progress)
    await anyio.lowlevel.checkpoint()
    assert made.name == "base"
    assert [(event.stage, event.done, event.total) for event in seen] == [("kernel", 1, 2), ("kernel", 2, 2)]


async def test_a_caller_who_leaves_does_not_stop_the_build(images: Images) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(images.build, types.ImageBuild(), lambda event: tasks.cancel_scope.cancel())
    store_of(images).go_on.set()
    assert await anyio.to_thread.run_sync(store_of(images).finished.wait, 10)


async def test_the_real_store_of_an_empty_directory_has_nothing(directory: Path) -> None:
    images = Images(settings_in(directory))
    assert await images.list() == []
    with pytest.raises(NotFound):
        await images.remove("base")
    with pytest.raises(InvalidRequest):
        await images.build(types.ImageBuild(name="other"), lambda event: None)
