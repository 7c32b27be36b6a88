import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.dockerd import TINY, PrivateDocker
from tests.unit.bhatti.engines.docker.conftest import new_spec
from tests.unit.bhatti.engines.docker.test_machine import eventually

from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.container import container_name
from bhatti.engines.docker.engine import DockerEngine
from bhatti.engines.docker.files import Home
from bhatti.engines.docker.host import open_host
from bhatti.engines.docker.pool import ReadyContainer, ReadyPool, Shape, can_be_ready
from bhatti.engines.docker.settings import DockerSettings
from bhatti.errors import GuestTimeout
from bhatti.model.sandbox import GuestFile, Status, VolumeAttachment

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vm,
    pytest.mark.timeout(120),  # each makes up to six containers
    pytest.mark.skipif(os.geteuid() != 0, reason="gives containers other host names, which needs root"),
]


@pytest.fixture
def pooled(settings: DockerSettings) -> DockerSettings:
    return replace(settings, pool=2)


@pytest.fixture
async def engine(pooled: DockerSettings, nothing_left: None) -> AsyncIterator[DockerEngine]:
    """An engine whose pool is full, and which has no sandbox."""
    async with DockerEngine(pooled) as engine:
        await engine.destroy((await engine.create(new_spec("first"))).id)
        await eventually(lambda: engine.ready == 2)
        yield engine
        for machine in await engine.list():
            await engine.destroy(machine.id)


def was_ready(why: str) -> bool:
    return why.startswith("taken from the pool")


def removed_but_open(directory: Path) -> list[str]:
    """Return the files that were in a directory, and which this process keeps open."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(f"{directory}/") and path.endswith("(deleted)")]


async def test_an_agent_that_does_not_read_who_it_is_is_given_up(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    os.mkfifo(home.document)
    reader = os.open(home.document, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    pipe = os.open(home.document, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    nothing: Any = None  # neither Docker nor what it says of the container is looked at
    ready = ReadyContainer(Shape("image", "agent", 1, 128, "none"), home, nothing, nothing, pipe)
    try:
        with pytest.raises(GuestTimeout, match="did not read who it is"):
            ready.tell(bytes(1 << 20), 0.05)
    finally:
        os.close(reader)
    assert not ready.waits


async def test_a_ready_one_becomes_the_sandbox_that_was_asked_for(engine: DockerEngine, docker: PrivateDocker) -> None:
    spec = new_spec("mine", env={"A": "b"}, files=(GuestFile("/etc/given", b"x" * 200_000),), init="exec sleep 1000")
    machine = await engine.create(spec)
    assert was_ready(machine.why)
    assert machine.timings_ms.keys() == {"images", "claim", "agent", "total"}
    link = engine.link(machine.id)
    script = "cat /proc/sys/kernel/hostname /etc/hostname; echo $A; id -un; cat /etc/hosts"
    words = (await link.exec(["sh", "-c", script])).stdout.decode().split()
    assert words[:4] == ["mine", "mine", "b", "lohar"]
    assert words[-2:] == [machine.address, "mine"]
    assert (await link.stat("/etc/given")).size == 200_000
    assert [session.session_id for session in await link.sessions()] == ["init"]
    assert (await link.hello()).sandbox_id == spec.id
    name = container_name(engine.host.instance, spec.id)
    await eventually(lambda: name in docker.docker("ps", "--format", "{{.Names}}"))


async def test_two_of_the_pool_share_nothing_of_their_own(engine: DockerEngine) -> None:
    made = [await engine.create(new_spec(name)) for name in ("one", "two")]
    assert all(was_ready(machine.why) for machine in made)
    ids = [await engine.link(machine.id).read_file("/etc/machine-id") for machine in made]
    assert len(set(ids)) == 2
    assert len({machine.address for machine in made}) == 2


async def test_the_pool_is_filled_up_again(engine: DockerEngine) -> None:
    await engine.create(new_spec())
    await eventually(lambda: engine.ready == 2)


async def test_a_stop_and_a_start_keep_who_it_is(engine: DockerEngine) -> None:
    machine = await engine.create(new_spec("mine", env={"A": "b"}, files=(GuestFile("/tmp/given", b"given"),)))
    await engine.link(machine.id).write_file("/tmp/given", b"edited")
    await engine.stop(machine.id, memory=False)
    await engine.start(machine.id)
    link = engine.link(machine.id)
    result = await link.exec(["sh", "-c", "cat /proc/sys/kernel/hostname /etc/hostname; echo $A; cat /tmp/given"])
    assert result.stdout.decode().split() == ["mine", "mine", "b", "edited"]


async def test_the_next_engine_adopts_what_was_taken_and_removes_what_was_ready(
    engine: DockerEngine, pooled: DockerSettings, api: DockerApi
) -> None:
    machine = await engine.create(new_spec())
    await eventually(lambda: engine.ready == 2)
    async with DockerEngine(replace(pooled, pool=0)) as later:
        # While the other one lives, as if it had been killed: its ready containers have no record.
        assert await later.adopt() == [machine]
        assert (await later.link(machine.id).exec(["true"])).exit_code == 0
    assert len(await api.containers(f"bhatti.instance={engine.host.instance}")) == 1


@pytest.mark.parametrize(("cpus", "memory_mib"), [(1, 192), (2, 128)])
async def test_another_shape_is_made_and_the_pool_follows(engine: DockerEngine, cpus: int, memory_mib: int) -> None:
    other = await engine.create(new_spec(cpus=cpus, memory_mib=memory_mib))
    assert not was_ready(other.why)
    await eventually(lambda: engine.ready == 2)

    async def is_ready_for_it() -> bool:
        again = await engine.create(new_spec(cpus=cpus, memory_mib=memory_mib))
        await engine.destroy(again.id)
        return was_ready(again.why)

    await eventually(is_ready_for_it)


async def test_volumes_need_a_container_of_its_own(engine: DockerEngine) -> None:
    await engine.volumes.create("data", 64)
    machine = await engine.create(new_spec(volumes=(VolumeAttachment("data", "/data"),)))
    assert not was_ready(machine.why)
    await engine.destroy(machine.id)
    await engine.volumes.remove("data")


async def test_ready_ones_that_were_removed_by_hand_are_not_taken(engine: DockerEngine, docker: PrivateDocker) -> None:
    await anyio.to_thread.run_sync(docker.docker, "rm", "--force", *docker.docker("ps", "--quiet"))
    machine = await engine.create(new_spec())
    assert not was_ready(machine.why)
    assert machine.status is Status.RUNNING
    await eventually(lambda: engine.ready == 2)
    assert was_ready((await engine.create(new_spec())).why)


async def test_a_create_cancelled_while_it_takes_a_ready_one_leaves_nothing(engine: DockerEngine) -> None:
    with anyio.CancelScope() as scope:
        await engine.create(new_spec(), progress=lambda stage: scope.cancel() if stage == "claim" else None)
    assert scope.cancelled_caught
    assert await engine.list() == []
    assert removed_but_open(engine.settings.homes_dir) == []


async def test_a_create_whose_caller_fails_while_it_takes_a_ready_one_leaves_nothing(
    engine: DockerEngine, api: DockerApi
) -> None:
    def refuse(stage: str) -> None:
        if stage == "claim":
            raise RuntimeError(stage)

    with pytest.raises(RuntimeError, match="claim"):
        await engine.create(new_spec(), progress=refuse)
    assert await engine.list() == []
    # The other one that was ready is, and nothing else: the pool is filled up by creations that succeed.
    assert len(await api.containers(f"bhatti.instance={engine.host.instance}")) == 1
    assert removed_but_open(engine.settings.homes_dir) == []


async def test_a_pool_that_ends_while_it_removes_leaves_nothing(settings: DockerSettings, nothing_left: None) -> None:
    host = await open_host(settings)
    pool, network = ReadyPool(host, 1), host.network.name
    image = await host.images.find(TINY)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.fill)
        pool.want(Shape.of(new_spec(), image, network), image)
        await eventually(lambda: pool.count == 1)
        pool.want(Shape.of(new_spec(cpus=2), image, network), image)
        while pool.count:  # until Docker is being asked to remove it
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    await pool.aclose()
    assert await host.api.containers(f"bhatti.instance={host.instance}") == []
    await host.network.remove()
    await host.api.aclose()


async def test_an_engine_whose_user_is_cancelled_leaves_nothing_ready(
    pooled: DockerSettings, nothing_left: None
) -> None:
    with anyio.CancelScope() as scope:
        async with DockerEngine(pooled) as engine:
            await engine.destroy((await engine.create(new_spec())).id)
            await eventually(lambda: engine.ready == 2)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_not_every_host_can_have_them(docker: PrivateDocker, tmp_path: Path) -> None:
    settings = DockerSettings(
        state_dir=tmp_path, images_dir=tmp_path, socket=docker.socket, runtime="runsc", network="none", pool=1
    )
    host = await open_host(settings)
    assert "gVisor" in can_be_ready(host)
    await host.api.aclose()
    async with DockerEngine(settings) as engine:
        assert engine.ready == 0
