import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import msgspec
import pytest
from tests.dockerd import TINY, PrivateDocker, tiny_archive

from bhatti.engines.docker import api_types as types
from bhatti.engines.docker import console
from bhatti.engines.docker.api import NEWEST, OLDEST, DockerApi, negotiate
from bhatti.errors import Conflict, EngineFailure, InvalidRequest, MissingDependency, NotFound

pytestmark = pytest.mark.anyio

LABELS = {"bhatti.test": "api"}
LABEL = "bhatti.test=api"


def container(*words: str) -> types.ContainerConfig:
    return types.ContainerConfig(
        image=TINY,
        hostname="box",
        entrypoint=list(words),
        cmd=[],
        env=[],
        user="",
        working_dir="/",
        labels=LABELS,
        healthcheck=types.Healthcheck(test=["NONE"]),
        host_config=types.HostConfig(
            mounts=[],
            tmpfs={},
            network_mode="none",
            memory=64 << 20,
            memory_swap=64 << 20,
            nano_cpus=1_000_000_000,
            pids_limit=64,
            cap_drop=["ALL"],
            cap_add=[],
            security_opt=[],
            runtime="runc",
            log_config=types.LogConfig(),
        ),
    )


@pytest.fixture
async def made(api: DockerApi) -> AsyncIterator[str]:
    """A container that sleeps, not started."""
    identifier = await api.create_container("bhatti-test-api", container("/bin/sleep", "1000"))
    yield identifier
    await api.remove_container(identifier)


def test_the_newest_version_that_both_know_is_spoken() -> None:
    assert negotiate("1.41") == (1, 41)
    assert negotiate(f"{OLDEST[0]}.{OLDEST[1]}") == OLDEST
    assert negotiate("1.99") == NEWEST
    assert negotiate("2.0") == NEWEST


def test_a_docker_that_is_too_old_is_refused() -> None:
    with pytest.raises(MissingDependency, match=r"1\.24") as caught:
        negotiate("1.24")
    assert caught.value.code == "docker-too-old"


@pytest.mark.parametrize("version", ["", "1", "one.two", "1.41-beta"])
def test_what_is_no_docker_is_refused(version: str) -> None:
    with pytest.raises(EngineFailure, match="no Docker"):
        negotiate(version)


async def test_a_real_docker_agrees_on_a_version_and_tells_about_itself(api: DockerApi) -> None:
    assert OLDEST <= api.version <= NEWEST
    assert api.prefix == f"/v{api.version[0]}.{api.version[1]}"
    info = await api.info()
    assert "runc" in info.runtimes
    assert info.server_version


async def test_no_docker_is_told_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match="no such socket"):
        await DockerApi.connect(tmp_path / "docker.sock")


async def test_a_container_lives_and_dies(api: DockerApi, made: str) -> None:
    assert (await api.container(made)).state.status == "created"
    await api.start_container(made)
    await api.start_container(made)  # a no-op
    running = (await api.container(made)).state
    assert (running.status, running.running, running.paused) == ("running", True, False)
    await api.pause_container(made)
    assert (await api.container(made)).state.paused
    await api.unpause_container(made)
    assert [found.id for found in await api.containers(LABEL)] == [made]
    await api.stop_container(made, 0)
    await api.stop_container(made, 0)  # a no-op
    await api.wait_stopped(made)
    assert (await api.container(made)).state.exit_code == 137
    await api.remove_container(made)
    await api.remove_container(made)  # a no-op
    await api.wait_removed(made)
    assert await api.containers(LABEL) == []


@pytest.mark.parametrize(
    "call",
    [
        DockerApi.container,
        DockerApi.start_container,
        DockerApi.pause_container,
        DockerApi.wait_stopped,
        DockerApi.image,
    ],
)
async def test_what_is_not_there_is_not_found(api: DockerApi, call: Callable[..., object]) -> None:
    with pytest.raises(NotFound):
        await call(api, "nonexistent")  # type: ignore[misc]


async def test_a_taken_name_is_a_conflict(api: DockerApi, made: str) -> None:
    with pytest.raises(Conflict, match="already in use"):
        await api.create_container("bhatti-test-api", container("/bin/true"))


async def test_an_image_that_is_missing_is_not_found(api: DockerApi) -> None:
    config = msgspec.structs.replace(container(), image="nonexistent")
    with pytest.raises(NotFound, match="nonexistent"):
        await api.create_container("x", config)


async def test_a_program_that_is_missing_is_told(api: DockerApi) -> None:
    identifier = await api.create_container("bhatti-test-missing", container("/bin/nonexistent"))
    try:
        with pytest.raises((EngineFailure, InvalidRequest, NotFound), match="no such file"):
            await api.start_container(identifier)
    finally:
        await api.remove_container(identifier)


@pytest.mark.parametrize("stream", [1, 2])
async def test_output_and_errors_are_kept_in_order(api: DockerApi, stream: int) -> None:
    script = f"exec >&{stream}; echo one; echo two"
    identifier = await api.create_container("bhatti-test-log", container("/bin/sh", "-c", script))
    try:
        await api.start_container(identifier)
        await api.wait_stopped(identifier)
        assert console.demultiplex(await api.logs(identifier, 10)) == b"one\ntwo\n"
        assert console.demultiplex(await api.logs(identifier, 1)) == b"two\n"
    finally:
        await api.remove_container(identifier)


async def test_events_of_a_label_are_heard_as_they_happen_and_from_a_time_on(api: DockerApi, made: str) -> None:
    since = time.time()
    await api.start_container(made)
    heard = []
    with anyio.fail_after(60):
        async with contextlib.aclosing(api.events(LABEL, since)) as events:
            async for event in events:
                heard.append(event.action)
                if event.action == "start":
                    await api.pause_container(made)
                if event.action == "pause":
                    break
    assert heard[-2:] == ["start", "pause"]


async def test_networks_and_volumes_come_and_go(api: DockerApi) -> None:
    await api.create_network("bhatti-test-net", "bhdtest0", LABELS)
    with pytest.raises(Conflict):
        await api.create_network("bhatti-test-net", "bhdtest1", LABELS)
    assert [network.name for network in await api.networks(LABEL)] == ["bhatti-test-net"]
    assert await anyio.Path("/sys/class/net/bhdtest0").exists()
    await api.remove_network("bhatti-test-net")
    with pytest.raises(NotFound):
        await api.remove_network("bhatti-test-net")
    assert not await anyio.Path("/sys/class/net/bhdtest0").exists()
    await api.create_volume("bhatti-test-volume", LABELS)
    await api.create_volume("bhatti-test-volume", LABELS)  # a no-op
    assert [volume.name for volume in await api.volumes(LABEL)] == ["bhatti-test-volume"]
    await api.remove_volume("bhatti-test-volume")
    with pytest.raises(NotFound):
        await api.remove_volume("bhatti-test-volume")


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def test_what_is_no_archive_cannot_be_imported(api: DockerApi) -> None:
    with pytest.raises(EngineFailure):
        await api.import_image(pieces(b"not a tar archive" * 100), name="bhatti-bad", tag="x", labels={})
    with pytest.raises(NotFound):
        await api.image("bhatti-bad:x")


async def test_labels_of_an_import_are_found_again(api: DockerApi, docker: PrivateDocker) -> None:
    await api.import_image(pieces(tiny_archive()), name="bhatti-labelled", tag="x", labels={"bhatti.test": "import"})
    found = await api.images("bhatti.test=import")
    assert [image.labels for image in found] == [{"bhatti.test": "import"}]
    await api.remove_image(found[0].id)
    assert await api.images("bhatti.test=import") == []


async def test_pulling_without_a_registry_fails_with_its_reason(api: DockerApi) -> None:
    with pytest.raises((EngineFailure, NotFound), match=r"127\.0\.0\.1:9"):
        await api.pull_image("127.0.0.1:9/nothing")
