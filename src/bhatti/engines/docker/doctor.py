"""What `bhatti doctor` says about the Docker engine on this host."""

import anyio

from bhatti.engines.base import Finding
from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.api_types import DaemonInfo
from bhatti.engines.docker.host import check_user_namespaces, choose_runtime
from bhatti.engines.docker.settings import DockerSettings
from bhatti.errors import BhattiError


def examine(settings: DockerSettings) -> list[Finding]:
    """Return the facts about Docker, its runtime and what it can limit. Blocks for some milliseconds."""
    return anyio.run(_examine, settings)


async def _examine(settings: DockerSettings) -> list[Finding]:
    try:
        api = await DockerApi.connect(settings.find_socket())
    except BhattiError as error:
        return [Finding(name="docker", level="failed", detail=error.message, hint=error.hint)]
    try:
        info = await api.info()
    except BhattiError as error:
        return [Finding(name="docker", level="failed", detail=error.message, hint=error.hint)]
    finally:
        await api.aclose()
    version = f"{info.server_version} at {api.socket}, API {api.version[0]}.{api.version[1]}"
    return [
        Finding(name="docker", level="ok", detail=version),
        _runtime(settings, info),
        _isolation(info),
        _limits(info),
    ]


def _runtime(settings: DockerSettings, info: DaemonInfo) -> Finding:
    try:
        check_user_namespaces(info)
        name, _ = choose_runtime(settings, info)
    except BhattiError as error:
        return Finding(name="runtime", level="failed", detail=error.message, hint=error.hint)
    return Finding(name="runtime", level="ok", detail=f"{name}, of {', '.join(sorted(info.runtimes))}")


def _isolation(info: DaemonInfo) -> Finding:
    options = info.security_options or []
    if not any(option.startswith("name=seccomp") for option in options):
        return Finding(
            name="isolation",
            level="warning",
            detail="Docker filters no system calls (seccomp): containers reach all of this host's kernel",
            hint="use a Docker and a kernel with seccomp, or the engine qemu",
        )
    return Finding(name="isolation", level="ok", detail=", ".join(options))


def _limits(info: DaemonInfo) -> Finding:
    kinds = {"memory": info.memory_limit, "CPU": info.cpu_cfs_quota, "processes": info.pids_limit}
    missing = [kind for kind, there in kinds.items() if not there]
    if missing:
        return Finding(
            name="limits",
            level="warning",
            detail=f"this kernel cannot limit {', '.join(missing)} of a container (cgroup v{info.cgroup_version})",
            hint="boot with cgroup v2 and its controllers",
        )
    detail = f"memory, CPU, processes (cgroup v{info.cgroup_version}); disks and volumes are not limited"
    return Finding(name="limits", level="ok", detail=detail)
