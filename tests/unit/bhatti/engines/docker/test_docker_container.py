from collections.abc import AsyncIterator

import anyio
import pytest
from tests.unit.bhatti.engines.docker.test_api import container

from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.container import LABEL_HOME
from bhatti.engines.docker.docker_container import DockerContainer
from bhatti.errors import BhattiError, NotFound

pytestmark = pytest.mark.anyio

NAME = "bhatti-test-kept"


async def make(api: DockerApi, *words: str) -> DockerContainer:
    config = container(*words)
    config.labels[LABEL_HOME] = "box"
    made = DockerContainer(api, NAME, "box")
    assert await made.create(config) == made.reference != NAME
    return made


@pytest.fixture
async def kept(api: DockerApi) -> AsyncIterator[DockerContainer]:
    """A running container that sleeps."""
    made = await make(api, "/bin/sh", "-c", "echo awake; exec sleep 1000")
    await made.start()
    yield made
    await made.remove()


async def test_it_is_the_sandboxs_own_or_none(kept: DockerContainer, api: DockerApi) -> None:
    assert await kept.inspect() is not None
    assert await DockerContainer(api, NAME, "box").inspect() is not None
    assert await DockerContainer(api, NAME, "another").inspect() is None
    assert await DockerContainer(api, "nonexistent", "box").inspect() is None


async def test_pausing_twice_changes_nothing(kept: DockerContainer) -> None:
    assert await kept.set_paused(True, believed=False)
    assert not await kept.set_paused(True, believed=True)
    assert await kept.set_paused(False, believed=True)
    assert not await kept.set_paused(False, believed=False)
    assert await kept.runs()


@pytest.mark.parametrize("wanted", [True, False])
async def test_where_docker_contradicts_us_it_ends_as_wanted(kept: DockerContainer, wanted: bool) -> None:
    await kept.set_paused(wanted, believed=not wanted)
    assert await kept.set_paused(wanted, believed=not wanted), "done again, as it was believed to be otherwise"
    info = await kept.inspect()
    assert info is not None
    assert info.state.paused is wanted


async def test_one_that_does_not_run_cannot_be_paused(kept: DockerContainer) -> None:
    await kept.end_quietly()
    for wanted in (True, False):
        with pytest.raises(BhattiError):
            await kept.set_paused(wanted, believed=not wanted)


async def test_a_paused_one_is_stopped_without_waiting_for_what_cannot_answer(api: DockerApi) -> None:
    obedient = await make(api, "/bin/sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.01; done")
    try:
        await obedient.start()
        await obedient.set_paused(True, believed=False)
        with anyio.fail_after(60):
            await obedient.stop(600, paused=True)
        info = await obedient.inspect()
        assert info is not None
        assert info.state.exit_code == 3, "it took the signal"
    finally:
        await obedient.remove()


async def test_its_end_is_waited_for_and_explained(kept: DockerContainer) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kept.wait_stopped)
        await kept.end_quietly()
    assert not await kept.runs()
    cause = await kept.cause_of_death(await kept.inspect(), 64)
    assert cause.kind == "killed"
    assert "SIGKILL" in cause.detail
    assert "removed by hand" in (await kept.cause_of_death(None, 64)).detail


async def test_what_is_gone_is_gone_quietly(kept: DockerContainer) -> None:
    await kept.remove()
    await kept.remove()
    await kept.end_quietly()
    assert await kept.tail() == ""
    assert not await kept.runs()
    with pytest.raises(NotFound):
        await kept.wait_stopped()


async def test_it_gets_another_name_if_that_is_free(kept: DockerContainer, api: DockerApi) -> None:
    await kept.rename("bhatti-test-renamed")
    info = await kept.inspect()
    assert info is not None
    assert info.name == "/bhatti-test-renamed"
    other = await make(api, "/bin/true")
    try:
        await other.rename("bhatti-test-renamed")  # taken: it keeps its own
        found = await other.inspect()
        assert found is not None
        assert found.name == f"/{NAME}"
    finally:
        await other.remove()
    await other.rename("bhatti-test-gone")


async def test_its_output_is_read_in_both_ways(kept: DockerContainer) -> None:
    with anyio.fail_after(60):
        while await kept.tail() != "awake\n":  # Docker is told of the output a moment later
            await anyio.lowlevel.checkpoint()
    assert await anyio.to_thread.run_sync(kept.read_console, 3) == "ke\n"
