from pathlib import Path

import pytest
from tests.dockerd import PrivateDocker

from bhatti.engines.docker.api_types import DaemonInfo, Runtime
from bhatti.engines.docker.host import check_user_namespaces, choose_runtime, open_host
from bhatti.engines.docker.settings import DockerSettings
from bhatti.errors import MissingDependency

INFO = DaemonInfo(
    runtimes={
        "runc": Runtime("runc"),
        "runsc": Runtime("/usr/bin/runsc", ["--host-uds=create"]),
        "closed": Runtime("/usr/bin/runsc"),
    }
)


def settings(runtime: str = "") -> DockerSettings:
    return DockerSettings(state_dir=Path("/s"), images_dir=Path("/i"), runtime=runtime)


def test_dockers_default_runtime_is_taken_unless_another_is_named() -> None:
    assert choose_runtime(settings(), INFO)[0] == "runc"
    assert choose_runtime(settings("runsc"), INFO)[0] == "runsc"


def test_a_runtime_that_docker_does_not_know_is_told_with_those_it_knows() -> None:
    with pytest.raises(MissingDependency, match="only closed, runc, runsc") as caught:
        choose_runtime(settings("kata"), INFO)
    assert caught.value.code == "runtime-missing"


def test_a_gvisor_that_hides_sockets_is_told_how_to_show_them() -> None:
    with pytest.raises(MissingDependency) as caught:
        choose_runtime(settings("closed"), INFO)
    assert caught.value.code == "runtime-closed"
    assert "--host-uds=create" in str(caught.value.hint)


def test_mapped_users_are_refused() -> None:
    check_user_namespaces(DaemonInfo(security_options=["name=seccomp,profile=default"]))
    with pytest.raises(MissingDependency) as caught:
        check_user_namespaces(DaemonInfo(security_options=["name=seccomp,profile=default", "name=userns"]))
    assert caught.value.code == "docker-userns"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("runtime", "no_new_privileges", "sudo"), [("", True, False), ("", False, True), ("runsc", False, False)]
)
async def test_the_host_says_what_runs_and_whether_sudo_works(
    docker: PrivateDocker, tmp_path: Path, runtime: str, no_new_privileges: bool, sudo: bool
) -> None:
    wanted = DockerSettings(
        state_dir=tmp_path / "state",
        images_dir=tmp_path,
        socket=docker.socket,
        runtime=runtime,
        network="none",
        no_new_privileges=no_new_privileges,
    )
    host = await open_host(wanted)
    assert host.sudo is sudo
    assert host.why.startswith(f"a container of {runtime or 'runc'}, Docker ")
    assert host.is_gvisor is (runtime == "runsc")
    for directory in (wanted.sandboxes_dir, wanted.homes_dir):
        assert directory.stat().st_mode & 0o077 == 0
    await host.api.aclose()
