"""What all containers of one engine share: Docker, the runtime, the network, the images. Found out once."""

from dataclasses import dataclass, field
from pathlib import Path, PurePath

import anyio

from bhatti.engines.deaths import Deaths
from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.api_types import DaemonInfo, Runtime
from bhatti.engines.docker.images import DockerImages
from bhatti.engines.docker.network import ContainerNetwork
from bhatti.engines.docker.settings import DockerSettings
from bhatti.engines.docker.volumes import Volumes
from bhatti.errors import MissingDependency
from bhatti.images.store import ImageStore
from bhatti.net.instance import instance_of

GVISOR = "runsc"


@dataclass(frozen=True, slots=True)
class DockerHost:
    """The host as the engine found it when it was entered."""

    settings: DockerSettings
    api: DockerApi
    info: DaemonInfo
    runtime: str
    instance: str
    network: ContainerNetwork
    images: DockerImages
    volumes: Volumes
    deaths: Deaths = field(default_factory=Deaths)

    @property
    def is_gvisor(self) -> bool:
        """Whether the runtime is gVisor's."""
        return is_gvisor(self.info.runtimes[self.runtime])

    @property
    def sudo(self) -> bool:
        """Whether programs in containers may gain rights. In gVisor set-user-ID counts only if it is told so."""
        allowed = "--allow-suid" in (self.info.runtimes[self.runtime].runtime_args or [])
        return not self.settings.no_new_privileges and (not self.is_gvisor or allowed)

    @property
    def why(self) -> str:
        """What runs the containers, for people."""
        return f"a container of {self.runtime}, Docker {self.info.server_version}"


async def open_host(settings: DockerSettings) -> DockerHost:
    """Look at Docker and make the engine's network.

    Raises `MissingDependency` when Docker or the runtime is not there or cannot be used, `Unavailable` when Docker does
    not answer.
    """
    instance = instance_of(settings.state_dir)
    api = await DockerApi.connect(settings.find_socket())
    try:
        info = await api.info()
        name, runtime = choose_runtime(settings, info)
        check_user_namespaces(info)
        for directory in (settings.sandboxes_dir, settings.homes_dir):
            await anyio.to_thread.run_sync(_make_directory, directory)
        network = await ContainerNetwork.open(
            api, instance, wanted=settings.network, inside="--network=none" not in (runtime.runtime_args or [])
        )
    except BaseException:
        await api.aclose()
        raise
    return DockerHost(
        settings=settings,
        api=api,
        info=info,
        runtime=name,
        instance=instance,
        network=network,
        images=DockerImages(api, ImageStore(settings.images_dir), pull=settings.pull),
        volumes=Volumes(api, instance),
    )


def choose_runtime(settings: DockerSettings, info: DaemonInfo) -> tuple[str, Runtime]:
    """Return name and description of the runtime that the settings want.

    Raises `MissingDependency` (codes `runtime-missing`, `runtime-closed`).
    """
    name = settings.runtime or info.default_runtime
    runtime = info.runtimes.get(name)
    if runtime is None:
        raise MissingDependency(
            f"Docker has no runtime {name!r}, only {', '.join(sorted(info.runtimes))}",
            hint=f"apt install {name}, name it under `runtimes` in /etc/docker/daemon.json, restart Docker",
            code="runtime-missing",
        )
    arguments = runtime.runtime_args or []
    if is_gvisor(runtime) and not {"--host-uds=create", "--host-uds=all"} & set(arguments):
        raise MissingDependency(
            f"runtime {name!r} does not let sandboxes make the sockets that their agent is reached by",
            hint='add "--host-uds=create" to its runtimeArgs in /etc/docker/daemon.json, then restart Docker',
            code="runtime-closed",
        )
    return name, runtime


def is_gvisor(runtime: Runtime) -> bool:
    """Tell whether a runtime is gVisor's, whatever Docker calls it."""
    return PurePath(runtime.path).name == GVISOR


def check_user_namespaces(info: DaemonInfo) -> None:
    """Raise `MissingDependency` (code `docker-userns`) if containers' root is not root of the host.

    It could not make sockets in the directory that only root of the host may enter.
    """
    if any(option.startswith("name=userns") for option in info.security_options or []):
        raise MissingDependency(
            "this Docker maps the users of containers to others (userns-remap), which is not supported",
            hint="use a Docker without userns-remap, or one in rootless mode",
            code="docker-userns",
        )


def _make_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
