"""A real Docker, real containers of a tiny image, and engines on them that must leave nothing behind."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.dockerd import TINY, PrivateDocker

from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.container import LABEL_INSTANCE
from bhatti.engines.docker.engine import DockerEngine
from bhatti.engines.docker.settings import DockerSettings
from bhatti.model.sandbox import SandboxSpec
from bhatti.net.instance import instance_of


def new_spec(name: str = "box", **changes: object) -> SandboxSpec:
    """Return a small sandbox with an id of its own, of the tiny image, whose only user is root."""
    wanted: dict[str, object] = {
        "id": f"{name}-{secrets.token_hex(4)}",
        "name": name,
        "image": TINY,
        "cpus": 1,
        "memory_mib": 128,
        "disk_mib": 64,
        "token": secrets.token_hex(16),
    }
    return SandboxSpec(**(wanted | changes))  # type: ignore[arg-type]  # checked by the engine like anybody's


@pytest.fixture
def settings(docker: PrivateDocker, tmp_path: Path, images_dir: Path) -> DockerSettings:
    return DockerSettings(state_dir=tmp_path / "state", images_dir=images_dir, socket=docker.socket, pull=False)


@pytest.fixture
async def api(docker: PrivateDocker) -> AsyncIterator[DockerApi]:
    await docker.import_tiny()
    api = await DockerApi.connect(docker.socket)
    yield api
    await api.aclose()


@pytest.fixture
async def nothing_left(settings: DockerSettings, api: DockerApi) -> AsyncIterator[None]:
    """What the engines of a test's state directory have made must be gone at its end."""
    yield
    label = f"{LABEL_INSTANCE}={instance_of(settings.state_dir)}"
    assert await api.containers(label) == []
    assert await api.networks(label) == []
    assert await api.volumes(label) == []
    for directory in (settings.sandboxes_dir, settings.homes_dir):
        assert list(directory.iterdir()) == []


@pytest.fixture
async def engine(settings: DockerSettings, nothing_left: None) -> AsyncIterator[DockerEngine]:
    """An engine of this test alone; sandboxes that the test leaves are destroyed."""
    async with DockerEngine(settings) as engine:
        yield engine
        for machine in await engine.list():
            await engine.destroy(machine.id)
        for volume in await engine.volumes.names():
            await engine.volumes.remove(volume)
