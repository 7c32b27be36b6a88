from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.unit.bhatti.engines.docker.conftest import new_spec

from bhatti.engines.docker import container
from bhatti.engines.docker.api_types import ContainerConfig
from bhatti.engines.docker.container import Surroundings, container_config, container_name
from bhatti.engines.docker.files import Home
from bhatti.engines.docker.settings import DockerSettings
from bhatti.images import agent_drive
from bhatti.model.sandbox import VolumeAttachment

SETTINGS = DockerSettings(state_dir=Path("/state"), images_dir=Path("/images"))
AROUND = Surroundings(
    agent=Path("/agents/1"),
    home=Home(Path("/homes/box")),
    network="bhatti-0",
    volumes=(),
    instance="0",
)


def made(settings: DockerSettings = SETTINGS, around: Surroundings = AROUND, **changes: object) -> ContainerConfig:
    return container_config(settings, new_spec(**changes), "sha256:1", "runc", around)  # type: ignore[arg-type]


def test_limits_are_in_dockers_units() -> None:
    host = made(cpus=2, memory_mib=256).host_config
    assert (host.memory, host.memory_swap) == (256 << 20, 256 << 20)
    assert host.nano_cpus == 2_000_000_000
    assert host.pids_limit == SETTINGS.pids_limit


def test_the_agent_is_the_init_with_its_own_loader() -> None:
    config = made()
    assert config.entrypoint[0] == f"{agent_drive.MOUNT_POINT}/lib/ld.so"
    assert config.cmd == [
        "/run/bhatti/config/config.json",
        "/run/bhatti/link/control.sock",
        "/run/bhatti/link/forward.sock",
    ]
    assert config.user == "0:0"
    assert "LD_PRELOAD=" in config.env


def test_agent_and_configuration_cannot_be_written_from_inside() -> None:
    mounts = {mount.target: mount for mount in made().host_config.mounts}
    assert mounts["/run/bhatti/agent"].read_only
    assert mounts["/run/bhatti/config"].read_only
    assert not mounts["/run/bhatti/link"].read_only
    assert mounts["/run/bhatti/config"].source == "/homes/box/config"


def test_volumes_are_mounted_and_writable_ones_given_to_the_user() -> None:
    volumes = (VolumeAttachment("data", "/data"), VolumeAttachment("tools", "/tools", read_only=True))
    config = made(around=replace(AROUND, volumes=("d1", "d2")), volumes=volumes)
    found = {mount.target: mount for mount in config.host_config.mounts if mount.type == "volume"}
    assert (found["/data"].source, found["/data"].read_only) == ("d1", False)
    assert (found["/tools"].source, found["/tools"].read_only) == ("d2", True)
    assert config.cmd[3:] == ["/data"]


def test_rights_are_dropped_and_only_named_ones_given_back() -> None:
    host = made().host_config
    assert host.cap_drop == ["ALL"]
    assert not {"SYS_ADMIN", "MKNOD", "SETFCAP", "SYS_CHROOT", "AUDIT_WRITE"} & set(host.cap_add)
    assert host.security_opt == ["no-new-privileges"]


def test_sudo_has_what_it_needs_when_it_is_allowed() -> None:
    settings = DockerSettings(state_dir=Path("/s"), images_dir=Path("/i"), no_new_privileges=False)
    host = made(settings).host_config
    assert host.security_opt == []
    assert "AUDIT_WRITE" in host.cap_add


def test_a_sandbox_without_network_knows_its_own_name() -> None:
    alone = made(around=replace(AROUND, network=container.ALONE), name="lonely").host_config
    assert alone.extra_hosts == ["lonely:127.0.1.1"]
    assert made().host_config.extra_hosts == []


def test_nothing_secret_is_told_to_docker() -> None:
    spec = new_spec(env={"KEY": "very-secret"})
    text = msgspec.json.encode(container_config(SETTINGS, spec, "sha256:1", "runc", AROUND)).decode()
    assert spec.token not in text
    assert "very-secret" not in text


def test_it_is_labelled_with_whose_it_is_and_where_its_files_are() -> None:
    assert made(name="box").labels == {"bhatti.instance": "0", "bhatti.home": "box", "bhatti.name": "box"}


def test_names_tell_engines_apart() -> None:
    assert container_name("0", "a") == "bhatti-0-a"
    assert container_name("1", "a") != container_name("0", "a")


@pytest.mark.parametrize("field", ["max-size", "max-file"])
def test_the_log_is_bounded(field: str) -> None:
    assert field in made().host_config.log_config.config
