from collections.abc import AsyncIterator

import pytest

from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.volumes import Volumes
from bhatti.errors import Conflict, InvalidRequest, NotFound
from bhatti.model.sandbox import VolumeAttachment

pytestmark = pytest.mark.anyio


@pytest.fixture
async def volumes(api: DockerApi) -> AsyncIterator[Volumes]:
    volumes = Volumes(api, "0test000")
    yield volumes
    for name in await volumes.names():
        await volumes.remove(name)


async def test_volumes_come_are_listed_and_go(volumes: Volumes) -> None:
    await volumes.create("two", 64)
    await volumes.create("one", 64)
    assert await volumes.names() == ["one", "two"]
    await volumes.remove("one")
    assert await volumes.names() == ["two"]


async def test_a_taken_name_is_a_conflict(volumes: Volumes) -> None:
    await volumes.create("data", 64)
    with pytest.raises(Conflict) as caught:
        await volumes.create("data", 64)
    assert caught.value.code == "volume-exists"


async def test_one_that_is_not_there_is_not_found(volumes: Volumes) -> None:
    for call in (volumes.remove("none"), volumes.check((VolumeAttachment("none", "/x"),), set())):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.code == "volume-not-found"


async def test_engines_do_not_see_each_others(volumes: Volumes, api: DockerApi) -> None:
    await volumes.create("data", 64)
    assert await Volumes(api, "1other00").names() == []


async def test_one_writer_at_a_time_and_any_readers(volumes: Volumes) -> None:
    await volumes.create("data", 64)
    writer, reader = VolumeAttachment("data", "/x"), VolumeAttachment("data", "/x", read_only=True)
    assert await volumes.check((writer,), set()) == (volumes.docker_name("data"),)
    assert await volumes.check((reader,), {"data"}) == (volumes.docker_name("data"),)
    with pytest.raises(Conflict) as caught:
        await volumes.check((writer,), {"data"})
    assert caught.value.code == "volume-in-use"


async def test_what_docker_cannot_do_with_them_is_said_with_the_reason(volumes: Volumes) -> None:
    await volumes.create("data", 64)
    with pytest.raises(InvalidRequest, match="known to Docker alone") as caught:
        await volumes.clone("data", "copy")
    assert caught.value.code == "unsupported"
    assert await volumes.names() == ["data"]
    await volumes.resize("data", 128)
    assert await volumes.size_mib("data") is None, "nothing bounds it"


async def test_no_volumes_ask_docker_nothing() -> None:
    assert await Volumes(None, "0").check((), set()) == ()  # type: ignore[arg-type]  # nothing to ask with
