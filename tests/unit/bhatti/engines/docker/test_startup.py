from pathlib import Path

import anyio
import pytest
from tests.agent.agents import LocalAgent
from tests.unit.bhatti.engines.docker.conftest import new_spec
from tests.unit.bhatti.engines.docker.test_docker_container import make

from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.api_types import ContainerInfo
from bhatti.engines.docker.startup import Startup
from bhatti.engines.stages import Stages
from bhatti.errors import BhattiError, EngineFailure, GuestTimeout, OutOfSpace
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.transports import UnixTransport

pytestmark = pytest.mark.anyio

SPEC = new_spec()


def link_to(folder: Path) -> GuestLink:
    return GuestLink(UnixTransport(folder / "control.sock", folder / "forward.sock"))


def stages() -> Stages:
    return Stages(lambda name: None, "start")


async def start(api: DockerApi, folder: Path, script: str, timeout_s: float) -> ContainerInfo:
    """Start a container that does `script`; its agent is whatever serves in `folder`."""
    docker = await make(api, "/bin/sh", "-c", script)

    async def launch() -> ContainerInfo | None:
        await docker.start()
        return await docker.inspect()

    found: list[ContainerInfo] = []
    failure: BhattiError | None = None
    async with link_to(folder) as link, anyio.create_task_group() as tasks:
        startup = Startup(SPEC, docker, link, timeout_s)
        tasks.start_soon(keep_suspecting, startup)
        try:
            found.append(await startup.run(stages(), launch, rename=False))
        except BhattiError as error:
            failure = error
        tasks.cancel_scope.cancel()
    await docker.remove()
    if failure is not None:
        raise failure
    return found[0]


async def keep_suspecting(startup: Startup) -> None:
    """Say again and again that something has happened, as Docker's events might."""
    while True:
        await startup.suspect()
        await anyio.sleep(0.05)


async def test_it_is_over_when_the_agent_answers(api: DockerApi, tmp_path: Path) -> None:
    agent = await anyio.to_thread.run_sync(LocalAgent, tmp_path)
    try:
        info = await start(api, tmp_path, "sleep 1000", 10)
        assert info.state.running
    finally:
        await anyio.to_thread.run_sync(agent.close)


async def test_a_container_that_ends_ends_the_waiting_with_its_words(api: DockerApi, tmp_path: Path) -> None:
    with anyio.fail_after(60), pytest.raises(EngineFailure, match="status 4: oh no") as caught:
        await start(api, tmp_path, "echo oh no; sleep 0.3; exit 4", 1000)
    assert caught.value.code == "boot-failed"


async def test_an_agent_that_is_silent_is_told_at_the_deadline(api: DockerApi, tmp_path: Path) -> None:
    with pytest.raises(GuestTimeout, match=r"within 0\.6 s") as caught:
        await start(api, tmp_path, "sleep 1000", 0.6)
    assert caught.value.code == "boot-timeout"


async def test_what_keeps_it_from_being_launched_is_told_as_it_is(api: DockerApi, tmp_path: Path) -> None:
    docker = await make(api, "/bin/true")

    async def launch() -> ContainerInfo | None:
        raise OutOfSpace("no room")

    async with link_to(tmp_path) as link:
        startup = Startup(SPEC, docker, link, 5)
        with pytest.raises(OutOfSpace, match="no room"):
            await startup.run(stages(), launch, rename=False)
    await docker.remove()
