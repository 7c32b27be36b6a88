"""From what was asked for to the container that Docker is told to make: a pure function of typed values."""

from dataclasses import dataclass
from pathlib import Path

from bhatti.engines.docker import api_types as types
from bhatti.engines.docker.console import MAX_LOG_BYTES
from bhatti.engines.docker.files import CONTROL_SOCKET, FORWARD_SOCKET, Home
from bhatti.engines.docker.settings import DockerSettings
from bhatti.images import agent_drive
from bhatti.model.sandbox import SandboxSpec

CONFIG_MOUNT = "/run/bhatti/config"
LINK_MOUNT = "/run/bhatti/link"

ALONE = "none"
"""Docker's name for a network of a loopback and nothing else."""

LABEL_INSTANCE = "bhatti.instance"
"""On everything that an engine makes: whose it is."""

LABEL_HOME = "bhatti.home"
"""The name of the directory that is mounted in it, which its record has."""

LABEL_NAME = "bhatti.name"
"""For people: what the sandbox was called when the container was made."""

CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "NET_RAW", "SETGID", "SETUID",
)  # fmt: skip
"""What root inside may do: all that installing packages and acting as other users needs, and ping. Of Docker's usual
set, these are dropped: AUDIT_WRITE, MKNOD, SETFCAP, SETPCAP, SYS_CHROOT."""

SUDO_CAPABILITIES = ("AUDIT_WRITE",)
"""What sudo wants beyond them: it tells the kernel's audit log what it does, and complains if it cannot."""

OUR_ENVIRONMENT = ("LD_PRELOAD=", "LD_LIBRARY_PATH=", "LD_AUDIT=")
"""An image may set these for its own programs; they would send the agent's loader to foreign libraries."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container is given of the host: directories to mount, the network, Docker's names of its volumes."""

    agent: Path
    home: Home
    network: str
    volumes: tuple[str, ...]
    instance: str


def container_name(instance: str, sandbox_id: str) -> str:
    """Return the name that Docker and its users see."""
    return f"bhatti-{instance}-{sandbox_id}"


def container_config(
    settings: DockerSettings, spec: SandboxSpec, image: str, runtime: str, around: Surroundings
) -> types.ContainerConfig:
    """Return the container for `spec`. Nothing secret is in it: everybody who may use Docker can read it."""
    owned = [volume.target for volume in spec.volumes if not volume.read_only]
    return types.ContainerConfig(
        image=image,
        hostname=spec.name,
        entrypoint=start_command(),
        cmd=[
            f"{CONFIG_MOUNT}/config.json", f"{LINK_MOUNT}/{CONTROL_SOCKET}", f"{LINK_MOUNT}/{FORWARD_SOCKET}", *owned,
        ],
        env=list(OUR_ENVIRONMENT),
        user="0:0",
        working_dir="/",
        # Whatever an image's check runs, its place would be a program of the user's, not ours.
        healthcheck=types.Healthcheck(test=["NONE"]),
        labels={LABEL_INSTANCE: around.instance, LABEL_HOME: around.home.directory.name, LABEL_NAME: spec.name},
        host_config=types.HostConfig(
            mounts=_mounts(spec, around),
            tmpfs={"/run": "rw,nosuid,nodev,mode=755"},
            network_mode=around.network,
            memory=spec.memory_mib << 20,
            # Equal to memory: no swap beyond it.
            memory_swap=spec.memory_mib << 20,
            nano_cpus=spec.cpus * 1_000_000_000,
            pids_limit=settings.pids_limit,
            cap_drop=["ALL"],
            cap_add=[*CAPABILITIES, *(() if settings.no_new_privileges else SUDO_CAPABILITIES)],
            security_opt=["no-new-privileges"] if settings.no_new_privileges else [],
            runtime=runtime,
            log_config=types.LogConfig(config={"max-size": str(MAX_LOG_BYTES), "max-file": "1"}),
            dns=list(settings.dns),
            # With an address, Docker itself makes the name known inside.
            extra_hosts=[f"{spec.name}:127.0.1.1"] if around.network == ALONE else [],
        ),
    )  # fmt: skip


def start_command() -> list[str]:
    """Return the command line that starts the agent as a container's init."""
    return [*agent_drive.start_command()[:-1], "from lohar.container import main; main()"]


def _mounts(spec: SandboxSpec, around: Surroundings) -> list[types.Mount]:
    return [
        types.Mount(type="bind", source=str(around.agent), target=agent_drive.MOUNT_POINT, read_only=True),
        types.Mount(type="bind", source=str(around.home.config), target=CONFIG_MOUNT, read_only=True),
        types.Mount(type="bind", source=str(around.home.link), target=LINK_MOUNT),
        *(
            types.Mount(type="volume", source=source, target=volume.target, read_only=volume.read_only)
            for source, volume in zip(around.volumes, spec.volumes, strict=True)
        ),
    ]
