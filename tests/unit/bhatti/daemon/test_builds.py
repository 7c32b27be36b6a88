import base64
import datetime
import os
import threading
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from tests.serving import Served, settings_in
from tests.serving import serving as daemon_in
from tests.unit.bhatti.images.oci.making import archive, file, make_image, write_layout
from tests.unit.bhatti.images.oci.serving import FakeRegistry, Request, serving

from bhatti.daemon import builds
from bhatti.daemon.builds import Images, answer
from bhatti.errors import Busy, Conflict, InvalidRequest, NotFound, Unavailable
from bhatti.images.artefacts import Progress, silent
from bhatti.images.store import Image, ImageStore
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
        self.go_on.wait(60)
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

    made = await images.make(builds.building(types.ImageBuild()), on_progress)
    await anyio.lowlevel.checkpoint()
    assert made.name == "base"
    assert [(event.stage, event.done, event.total) for event in seen] == [("kernel", 1, 2), ("kernel", 2, 2)]


async def test_however_many_builds_leave_threads_for_the_rest_of_the_daemon(images: Images) -> None:
    made: list[types.Image] = []

    async def make() -> None:
        made.append(await images.make(builds.building(types.ImageBuild()), lambda event: None))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(make)
        await anyio.wait_all_tasks_blocked()
        try:
            with anyio.fail_after(30):
                await to_thread.run_sync(threading.get_ident)
        finally:
            store_of(images).go_on.set()
    assert len(made) == 50


async def test_a_caller_who_leaves_does_not_stop_the_build(images: Images) -> None:
    async with anyio.create_task_group() as tasks:
        work = builds.building(types.ImageBuild())
        tasks.start_soon(images.make, work, lambda event: tasks.cancel_scope.cancel())
    store_of(images).go_on.set()
    assert await anyio.to_thread.run_sync(store_of(images).finished.wait, 10)


def test_work_that_outlives_its_daemon_ends_at_its_next_step(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[BaseException] = []
    over = threading.Event()

    class Noting(Store):
        def build(self, name: str, *, refresh: bool, progress: Progress) -> Image:
            try:
                return super().build(name, refresh=refresh, progress=progress)
            except BaseException as error:
                ended.append(error)
                raise
            finally:
                over.set()

    monkeypatch.setattr(builds, "ImageStore", Noting)
    images = Images(settings_in(directory))

    async def serve() -> None:
        async with anyio.create_task_group() as tasks:
            work = builds.building(types.ImageBuild())
            tasks.start_soon(images.make, work, lambda event: tasks.cancel_scope.cancel())

    anyio.run(serve)
    store_of(images).go_on.set()
    assert over.wait(60)
    assert [error.code for error in ended if isinstance(error, Unavailable)] == ["stopping"]
    assert not store_of(images).finished.is_set()


async def test_the_real_store_of_an_empty_directory_has_nothing(directory: Path) -> None:
    images = Images(settings_in(directory))
    assert await images.list() == []
    with pytest.raises(NotFound):
        await images.remove("base")
    with pytest.raises(InvalidRequest):
        await images.make(builds.building(types.ImageBuild(name="other")), lambda event: None)


def test_a_request_that_names_nothing_is_refused_before_anything_is_done() -> None:
    with pytest.raises(InvalidRequest) as caught:
        builds.importing(types.ImageImport(source="alpine"))
    assert caught.value.code == "bad-source"
    with pytest.raises(InvalidRequest) as caught:
        builds.pulling(types.ImagePull(reference="Not A Name"))
    assert caught.value.code == "bad-reference"


class WithParts(ImageStore):
    """A store whose kernel and agent are there: to build them takes a minute, and is for the tests of images."""

    def build_parts(self, *, progress: Progress | None = None) -> None:
        assert progress is not None
        progress("kernel", 1, 1)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("needs root: images have files of several users")
    made = make_image([archive([file("etc/motd", b"hello")])], execution={"Env": ["PATH=/opt", "A=b"]})
    return write_layout(tmp_path / "layout", made)


async def test_an_image_of_this_machine_is_taken_over_with_its_variables(
    directory: Path, monkeypatch: pytest.MonkeyPatch, layout: Path
) -> None:
    monkeypatch.setattr(builds, "ImageStore", WithParts)
    images = Images(settings_in(directory))
    stages: list[str] = []
    request = types.ImageImport(source=f"oci:{layout}", name="app")
    made = await images.make(builds.importing(request), lambda event: stages.append(event.stage))
    await anyio.lowlevel.checkpoint()
    assert (made.name, made.source, stages[0]) == ("app", f"oci:{layout}", "kernel")
    assert await images.environment("app") == {"PATH": "/opt", "A": "b"}
    assert await images.environment("none") == {}
    assert await images.environment("../app") == {}


@pytest.mark.parametrize("username", ["", "alice"])
async def test_an_image_of_a_registry_is_taken_over_with_the_password_that_was_given(
    directory: Path, monkeypatch: pytest.MonkeyPatch, username: str
) -> None:
    monkeypatch.setattr(builds, "ImageStore", WithParts)
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))
    made = make_image([archive([file("etc/motd", username.encode())])])
    fake = FakeRegistry()
    fake.add(made, "v1")
    wanted = "Basic " + base64.b64encode(b"alice:secret").decode()

    def respond(request: Request) -> None:
        if not username or request.headers.get("Authorization") == wanted:
            fake(request)
        else:
            request.answer(401, WWW_Authenticate='Basic realm="test"')

    if os.geteuid() != 0:
        pytest.skip("needs root: images have files of several users")
    images = Images(settings_in(directory))
    with serving(respond) as server:
        request = types.ImagePull(reference=f"{server.host}/app:v1", username=username, password="secret")
        found = await images.make(builds.pulling(request), lambda event: None)
    assert (found.name, found.source) == ("app-v1", f"{server.host}/app:v1@{made.manifest.digest}")


def leave(store: ImageStore, content: bytes) -> Path:
    """Make the file system of an image that has no name any more."""
    artefacts = store._artefacts
    with artefacts.locked(silent), artefacts.staging() as work:
        (work / "root.ext4").write_bytes(content)
        return artefacts.commit(work, "root", 1, {"content": content.hex()}).directory / "root.ext4"


async def test_what_no_image_and_no_sandbox_needs_is_removed(served: Served) -> None:
    store = served.service._images._store
    unused, needed = await anyio.to_thread.run_sync(lambda: (leave(store, b"a" * 5000), leave(store, b"b" * 5000)))
    served.engine.needed = frozenset({needed})
    assert (await served.service.prune_images()).freed_bytes >= 5000
    assert (unused.exists(), needed.exists()) == (False, True)
    assert (await served.service.prune_images()).freed_bytes == 0
    last = (await served.service.watch.events(types.EventsQuery()))[-1]
    assert (last.kind, last.detail) == ("images-pruned", "0 MiB freed")


async def test_nothing_is_removed_while_it_is_not_known_who_needs_what(served: Served) -> None:
    unused = await anyio.to_thread.run_sync(leave, served.service._images._store, b"a")
    served.engine.needed = None
    with pytest.raises(Busy):
        await served.service.prune_images()
    assert unused.exists()


@pytest.mark.parametrize("linked", [False, True])
async def test_images_that_others_may_use_are_not_removed(directory: Path, tmp_path: Path, linked: bool) -> None:
    if linked:
        (directory / "images").symlink_to(tmp_path)
    flags = [] if linked else [f"images_dir={tmp_path}"]
    unused = await anyio.to_thread.run_sync(leave, ImageStore(tmp_path), b"a")
    async with daemon_in(directory, *flags) as served:
        with pytest.raises(Conflict) as caught:
            await served.service.prune_images()
    assert caught.value.code == "images-shared"
    assert unused.exists()
