from pathlib import Path

import pytest
from tests.dockerd import PrivateDocker

from bhatti.engines.docker import doctor
from bhatti.engines.docker.api_types import DaemonInfo
from bhatti.engines.docker.settings import DockerSettings


def settings(socket: Path, runtime: str = "") -> DockerSettings:
    return DockerSettings(state_dir=Path("/s"), images_dir=Path("/i"), socket=socket, runtime=runtime)


def test_a_docker_that_works_is_told_with_its_version(docker: PrivateDocker) -> None:
    findings = {finding.name: finding for finding in doctor.examine(settings(docker.socket))}
    assert findings.keys() == {"docker", "runtime", "isolation", "limits"}
    assert {finding.level for finding in findings.values()} == {"ok"}
    assert str(docker.socket) in findings["docker"].detail
    assert "disks and volumes are not limited" in findings["limits"].detail


def test_no_docker_is_the_only_finding(tmp_path: Path) -> None:
    (finding,) = doctor.examine(settings(tmp_path / "docker.sock"))
    assert (finding.name, finding.level) == ("docker", "failed")
    assert "apt install docker.io" in str(finding.hint)


def test_a_missing_runtime_is_found(docker: PrivateDocker) -> None:
    findings = {finding.name: finding for finding in doctor.examine(settings(docker.socket, "kata"))}
    assert findings["runtime"].level == "failed"


@pytest.mark.parametrize(
    ("info", "name", "words"),
    [
        (DaemonInfo(security_options=[]), "isolation", "seccomp"),
        (DaemonInfo(memory_limit=False, pids_limit=False), "limits", "memory, processes"),
    ],
)
def test_what_this_host_cannot_do_is_a_warning(info: DaemonInfo, name: str, words: str) -> None:
    finding = {"isolation": doctor._isolation, "limits": doctor._limits}[name](info)
    assert finding.level == "warning"
    assert words in finding.detail
    assert finding.hint is not None
