"""The engines under test: how each is set up, given a volume, and looked at from outside."""

from pathlib import Path

from tests.firecracker import need_working_firecracker

from bhatti.engines.docker.settings import DockerSettings
from bhatti.engines.firecracker.settings import FirecrackerSettings
from bhatti.engines.qemu.settings import QemuSettings

ENGINES = ["qemu", "firecracker", "docker", "docker+runsc"]
"""An engine's name, and after a plus the way that it runs things."""

Settings = QemuSettings | DockerSettings

VOLUME_MIB = 64


def name_of(kind: str) -> str:
    """Return the name that the registry has for an engine under test."""
    return kind.partition("+")[0]


def settings_for(kind: str, state_dir: Path, images_dir: Path, docker: Path | None = None) -> Settings:
    """Return the settings of an engine under test; `docker` is the socket of the tests' own dockerd."""
    name, _, runtime = kind.partition("+")
    if name == "firecracker":
        binary = need_working_firecracker()
        return FirecrackerSettings(
            state_dir=state_dir, images_dir=images_dir, binary=binary, fork=False, boot_timeout_s=180
        )
    if name == "qemu":
        return QemuSettings(state_dir=state_dir, images_dir=images_dir, fork=False, boot_timeout_s=180)
    return DockerSettings(
        state_dir=state_dir,
        images_dir=images_dir,
        socket=docker,
        runtime=runtime,
        pull=False,
        no_new_privileges=False,
    )
