from pathlib import Path

import pytest

from bhatti.engines.docker.settings import DockerSettings
from bhatti.errors import InvalidRequest


def settings(socket: Path | None = None) -> DockerSettings:
    return DockerSettings(state_dir=Path("/state"), images_dir=Path("/images"), socket=socket)


def test_what_is_set_comes_before_the_environment() -> None:
    found = settings(Path("/mine.sock")).find_socket({"DOCKER_HOST": "unix:///theirs.sock"})
    assert found == Path("/mine.sock")


@pytest.mark.parametrize(
    ("env", "path"),
    [
        ({}, "/var/run/docker.sock"),
        ({"DOCKER_HOST": ""}, "/var/run/docker.sock"),
        ({"DOCKER_HOST": "unix:///run/user/1000/docker.sock"}, "/run/user/1000/docker.sock"),
    ],
)
def test_docker_is_looked_for_where_its_own_command_would(env: dict[str, str], path: str) -> None:
    assert settings().find_socket(env) == Path(path)


@pytest.mark.parametrize("host", ["tcp://10.0.0.1:2375", "ssh://somebody@host", "/var/run/docker.sock", "unix://x"])
def test_a_docker_elsewhere_is_refused(host: str) -> None:
    with pytest.raises(InvalidRequest, match="not a unix socket") as caught:
        settings().find_socket({"DOCKER_HOST": host})
    assert caught.value.code == "docker-not-local"
    assert caught.value.hint is not None


def test_everything_is_kept_below_the_state_directory() -> None:
    assert settings().sandboxes_dir == Path("/state/sandboxes")
    assert settings().agents_dir == Path("/state/agents")
