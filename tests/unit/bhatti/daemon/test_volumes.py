"""Volumes with a real store and real files, given to real agents."""

import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import msgspec
import pytest
from tests.serving import Served, serving

from bhatti.errors import BhattiError, Busy, Conflict, CorruptData, InvalidRequest, NotFound, OutOfSpace
from bhatti.model.sandbox import VolumeStatus
from bhatti.operations import types
from bhatti.store.sandboxes import now
from bhatti.store.volumes import VolumeRecord

pytestmark = pytest.mark.anyio


async def create(served: Served, name: str, *volumes: types.VolumeMount, image: str = "base") -> types.Sandbox:
    request = types.SandboxCreate(name=name, volumes=list(volumes), image=image)
    return await served.service.create(request, lambda stage: None)


def data(**fields: object) -> types.VolumeMount:
    return types.VolumeMount(name="data", target="/data", **fields)  # type: ignore[arg-type]


async def make(served: Served, name: str = "data", size_mb: int = 8) -> types.Volume:
    return await served.service.volumes.create(types.VolumeCreate(name=name, size_mb=size_mb))


async def code_of(call: Awaitable[object]) -> str:
    with pytest.raises(BhattiError) as caught:
        await call
    return caught.value.code


def files(served: Served) -> list[str]:
    return sorted(path.name for path in (Path(served.settings.state_dir) / "volumes").glob("*"))


async def rows(served: Served) -> list[tuple[str, str]]:
    return [(row.name, row.status.value) for row in await served.journal.volumes.everything()]


async def test_a_volume_is_made_once_and_written_down(served: Served) -> None:
    made = await make(served)
    assert (made.name, made.size_mb, made.status, made.attached) == ("data", 8, VolumeStatus.READY, [])
    assert (files(served), await rows(served)) == (["data.ext4"], [("data", "ready")])
    assert await code_of(make(served)) == "volume-exists"
    await served.service.volumes.remove("data")
    assert (files(served), await rows(served)) == ([], [])
    assert [event.kind for event in await served.journal.events()] == ["volume-created", "volume-removed"]


async def test_of_many_who_make_the_same_one_does(served: Served) -> None:
    results: list[str] = []

    async def attempt() -> None:
        try:
            results.append((await make(served)).name)
        except Conflict as err:
            results.append(err.code)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(attempt)
    assert sorted(results) == ["data", "volume-exists", "volume-exists", "volume-exists"]


async def test_a_volume_has_one_writer_until_that_is_destroyed(served: Served) -> None:
    await make(served)
    await create(served, "one", data())
    assert await code_of(create(served, "two", data())) == "volume-in-use"
    assert await code_of(create(served, "two", data(read_only=True))) == "volume-in-use"
    await served.service.stop_sandbox("one")
    with pytest.raises(Conflict, match="'one' \\(stopped\\)"):
        await create(served, "two", data())
    await served.service.start_sandbox("one")
    await served.service.destroy("one")
    assert [use.sandbox for use in (await served.service.volumes.get("data")).attached] == []
    await create(served, "two", data())
    assert [use.sandbox for use in (await served.service.volumes.get("data")).attached] == ["two"]


async def test_any_number_may_read_while_nobody_writes(served: Served) -> None:
    await make(served)
    for name in ("one", "two"):
        await create(served, name, data(read_only=True))
    with pytest.raises(Conflict, match="which reads it"):
        await create(served, "three", data())


async def test_of_concurrent_writers_exactly_one_gets_it(served: Served) -> None:
    await make(served)
    results: list[str] = []

    async def attempt(name: str, mount: types.VolumeMount) -> None:
        try:
            await create(served, name, mount)
            results.append("made")
        except Conflict as err:
            results.append(err.code)

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(attempt, f"box-{number}", data(auto_create=number % 2 == 0))
    assert sorted(results) == ["made", "volume-in-use", "volume-in-use", "volume-in-use"]
    assert len(await served.engine.list()) == 1


async def test_one_that_is_missing_is_made_for_its_sandbox_if_so_wished(served: Served) -> None:
    assert await code_of(create(served, "one", data())) == "volume-not-found"
    await create(served, "one", data(auto_create=True, size_mb=16))
    assert (await served.service.volumes.get("data")).size_mb == 16
    await served.service.destroy("one")
    await create(served, "two", data(auto_create=True, size_mb=99))  # it is there: it stays as it is
    assert (await served.service.volumes.get("data")).size_mb == 16


async def test_what_is_made_for_a_sandbox_is_made_when_that_is(served: Served) -> None:
    began = anyio.Event()

    async def made() -> None:
        request = types.SandboxCreate(name="one", volumes=[data(auto_create=True)], image="mute")
        await served.service.create(request, lambda stage: began.set() if stage == "agent" else None)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made)
        await began.wait()
        assert await rows(served) == [("data", "creating")]
        assert (await served.service.volumes.get("data")).status is VolumeStatus.CREATING
        assert await code_of(create(served, "two", data())) == "volume-in-use"
        assert await code_of(served.service.volumes.remove("data")) == "busy"
        tasks.cancel_scope.cancel()
    assert (files(served), await rows(served)) == ([], [])
    await create(served, "one", data(auto_create=True))
    assert await rows(served) == [("data", "ready")]
    kinds = [event.kind for event in await served.journal.events()]
    assert kinds == ["create-undone", "volume-undone", "volume-created", "created"]


@pytest.mark.parametrize("image", ["dies", "missing", "full"])
async def test_what_was_made_for_a_sandbox_that_fails_goes_with_it(served: Served, image: str) -> None:
    await make(served, "old")
    old = types.VolumeMount(name="old", target="/old")
    await code_of(create(served, "one", old, data(auto_create=True), image=image))
    assert (files(served), await rows(served)) == (["old.ext4"], [("old", "ready")])
    await create(served, "one", old, data(auto_create=True))  # and both are free


async def test_a_creation_that_is_left_takes_its_volume_along(served: Served) -> None:
    with anyio.move_on_after(0.05) as scope:
        await create(served, "one", data(auto_create=True), image="silent")
    assert scope.cancelled_caught
    assert (files(served), await rows(served)) == ([], [])


async def test_one_in_use_is_neither_removed_nor_grown_and_cloned_only_if_nobody_writes(served: Served) -> None:
    await make(served)
    await create(served, "one", data(read_only=True))
    volumes = served.service.volumes
    with pytest.raises(Conflict, match="'one'") as caught:
        await volumes.remove("data")
    assert caught.value.code == "volume-in-use"
    assert await code_of(volumes.resize("data", types.VolumeResize(size_mb=16))) == "volume-in-use"
    assert (await volumes.clone("data", types.VolumeClone(name="copy"))).size_mb == 8
    await create(served, "two", types.VolumeMount(name="copy", target="/x"))
    assert await code_of(volumes.clone("copy", types.VolumeClone(name="third"))) == "volume-in-use"
    assert files(served) == ["copy.ext4", "data.ext4"]


async def test_a_volume_grows_and_does_not_shrink(served: Served) -> None:
    await make(served)
    volumes = served.service.volumes
    assert (await volumes.resize("data", types.VolumeResize(size_mb=64))).size_mb == 64
    assert (await volumes.resize("data", types.VolumeResize(size_mb=64))).size_mb == 64
    with pytest.raises(InvalidRequest) as caught:
        await volumes.resize("data", types.VolumeResize(size_mb=63))
    assert caught.value.code == "bad-size"
    assert served.engine.volumes.find("data").stat().st_size == 64 << 20


async def test_what_volumes_may_still_take_is_not_promised_twice(served: Served) -> None:
    free_mib = (await served.engine.volumes.use()).free_mib
    half = min(free_mib * 2 // 3, 1 << 19)
    if half < free_mib * 2 // 3:
        pytest.skip("the disk has room for the largest volumes")
    await make(served, "first", half)
    results: list[str] = []

    async def attempt(call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except OutOfSpace as err:
            results.append(err.code)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attempt, lambda: make(served, "second", half))
        tasks.start_soon(attempt, lambda: create(served, "one", data(auto_create=True, size_mb=half)))
        tasks.start_soon(attempt, lambda: served.service.volumes.clone("first", types.VolumeClone(name="third")))
    assert results == ["out-of-space"] * 3
    assert files(served) == ["first.ext4"]


async def test_a_damaged_volume_is_told_and_can_be_removed(served: Served) -> None:
    await make(served)
    served.engine.volumes.path("data").write_bytes(bytes(8 << 20))
    with pytest.raises(CorruptData) as caught:
        await create(served, "one", data())
    assert caught.value.code == "volume-corrupt"
    await served.service.volumes.remove("data")
    assert files(served) == []


async def test_a_file_that_the_store_does_not_know_is_left_alone(served: Served) -> None:
    await served.engine.volumes.create("data", 1)
    assert await code_of(make(served)) == "volume-exists"
    assert (files(served), await rows(served)) == (["data.ext4"], [])


async def test_what_is_under_way_is_busy(served: Served) -> None:
    await make(served)
    volumes = served.service.volumes
    with volumes._held("data", "resize"):
        for call in (
            create(served, "one", data()),
            volumes.remove("data"),
            volumes.clone("data", types.VolumeClone(name="copy")),
            volumes.resize("data", types.VolumeResize(size_mb=9)),
        ):
            with pytest.raises(Busy, match="resize is under way"):
                await call
    assert await served.engine.list() == []


async def test_the_next_daemon_removes_what_was_half_done_and_keeps_the_rest(directory: Path) -> None:
    async with serving(directory) as served:
        for name in ("kept", "grown", "going"):
            await make(served, name)
        await create(served, "one", types.VolumeMount(name="kept", target="/kept"))
        # As a kill leaves them: a row of something that is not there yet, or not any more, and a draft.
        for record in await served.journal.volumes.everything():
            if record.name == "going":
                await served.journal.volumes.note(msgspec.structs.replace(record, status=VolumeStatus.REMOVING))
        half = VolumeRecord(name="half", engine="local", size_mib=8, created_at=now())
        await served.journal.volumes.begin(half)
        await served.engine.volumes.create("half", 8)
        await served.engine.volumes.resize("grown", 16)
        (served.engine.volumes.directory / ".draft-x").touch()
        other = VolumeRecord(name="foreign", engine="docker", size_mib=8, created_at=now(), status=VolumeStatus.READY)
        await served.journal.volumes.begin(other)
        volumes = type(served.service.volumes)(served.service._orders, served.service._catalogue)
        await volumes.start(served.journal.volumes, served.engine)
        assert files(served) == ["grown.ext4", "kept.ext4"]
        assert [(found.name, found.size_mb) for found in await volumes.list()] == [
            ("foreign", 8), ("grown", 16), ("kept", 8),
        ]  # fmt: skip
        assert [use.sandbox for use in (await volumes.get("kept")).attached] == ["one"]
        assert await code_of(volumes.remove("foreign")) == "other-engine"
        with contextlib.suppress(NotFound):
            await volumes.remove("half")
            raise AssertionError("it is still there")


async def test_a_removal_that_fails_can_be_tried_again(served: Served) -> None:
    await make(served)
    path = served.engine.volumes.path("data")
    path.rename(path.with_name("aside"))
    path.mkdir()  # what cannot be unlinked, and is no file: as if it were gone already
    await served.service.volumes.remove("data")
    os.rmdir(path)  # noqa: PTH106
    assert await rows(served) == []
