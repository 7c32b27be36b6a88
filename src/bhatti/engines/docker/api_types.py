"""What goes to Docker and comes back, as far as it is wanted. Names in JSON are Docker's: `NanoCpus` for `nano_cpus`.

Source: Docker Engine API 1.41 (https://docs.docker.com/engine/api/v1.41/). Fields that are not listed are ignored.
"""

import msgspec


class Wanted(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Base of all of them."""


class Message(msgspec.Struct, frozen=True):
    """The body of every refusal."""

    message: str = ""


class DaemonInfo(Wanted, frozen=True, kw_only=True):
    """`GET /info`: what this Docker is and can do. `runtimes` maps names to how each is run."""

    id: str = msgspec.field(name="ID", default="")
    server_version: str = ""
    driver: str = ""
    security_options: list[str] | None = None
    runtimes: dict[str, "Runtime"] = {}
    default_runtime: str = "runc"
    memory_limit: bool = True
    pids_limit: bool = True
    cpu_cfs_quota: bool = True
    cgroup_version: str = "1"
    docker_root_dir: str = ""


class Runtime(msgspec.Struct, frozen=True, rename="camel"):
    """How a runtime is run."""

    path: str = ""
    runtime_args: list[str] | None = None


class ImageConfig(Wanted, frozen=True, kw_only=True):
    """What an image says about the programs in it."""

    env: list[str] | None = None
    labels: dict[str, str] | None = None


class ImageInfo(Wanted, frozen=True, kw_only=True):
    """`GET /images/{name}/json`."""

    id: str
    repo_tags: list[str] | None = None
    config: ImageConfig | None = None


class ImageSummary(Wanted, frozen=True, kw_only=True):
    """An entry of `GET /images/json`."""

    id: str
    labels: dict[str, str] | None = None


class Mount(Wanted, frozen=True, kw_only=True):
    """A bind mount (`source` is a path of the host) or a volume (`source` is its name)."""

    type: str
    source: str
    target: str
    read_only: bool = False


class LogConfig(Wanted, frozen=True, kw_only=True):
    """Where a container's output goes."""

    type: str = "json-file"
    config: dict[str, str] = {}


class HostConfig(Wanted, frozen=True, kw_only=True):
    """What a container may use and do. Sizes in bytes; `nano_cpus` in 1e-9 CPUs."""

    mounts: list[Mount]
    tmpfs: dict[str, str]
    network_mode: str
    memory: int
    memory_swap: int
    nano_cpus: int
    pids_limit: int
    cap_drop: list[str]
    cap_add: list[str]
    security_opt: list[str]
    runtime: str
    log_config: LogConfig
    dns: list[str] = []
    extra_hosts: list[str] = []


class Healthcheck(Wanted, frozen=True, kw_only=True):
    """How Docker would look whether a container is well."""

    test: list[str]


class ContainerConfig(Wanted, frozen=True, kw_only=True):
    """The body of `POST /containers/create`."""

    image: str
    hostname: str
    entrypoint: list[str]
    cmd: list[str]
    env: list[str]
    user: str
    working_dir: str
    labels: dict[str, str]
    host_config: HostConfig
    stop_signal: str = "SIGTERM"
    healthcheck: Healthcheck


class Created(Wanted, frozen=True, kw_only=True):
    """The answer to it."""

    id: str
    warnings: list[str] | None = None


class ContainerState(Wanted, frozen=True, kw_only=True):
    """How a container stands. `status` is created, running, paused, restarting, removing, exited or dead."""

    status: str
    running: bool = False
    paused: bool = False
    oom_killed: bool = msgspec.field(name="OOMKilled", default=False)
    exit_code: int = 0
    error: str = ""
    pid: int = 0
    started_at: str = ""
    finished_at: str = ""


class Endpoint(Wanted, frozen=True, kw_only=True):
    """A container's place in a network."""

    ip_address: str = msgspec.field(name="IPAddress", default="")


class NetworkSettings(Wanted, frozen=True, kw_only=True):
    """All its places."""

    networks: dict[str, Endpoint] | None = None


class InspectedConfig(Wanted, frozen=True, kw_only=True):
    """The part of its configuration that is looked at."""

    labels: dict[str, str] | None = None


class ContainerInfo(Wanted, frozen=True, kw_only=True):
    """`GET /containers/{id}/json`."""

    id: str
    name: str
    state: ContainerState
    config: InspectedConfig
    network_settings: NetworkSettings

    @property
    def address(self) -> str | None:
        """Its first address, if it has any."""
        endpoints = (self.network_settings.networks or {}).values()
        return next((endpoint.ip_address for endpoint in endpoints if endpoint.ip_address), None)


class ContainerSummary(Wanted, frozen=True, kw_only=True):
    """An entry of `GET /containers/json`."""

    id: str
    state: str
    labels: dict[str, str] | None = None


class Network(Wanted, frozen=True, kw_only=True):
    """An entry of `GET /networks`."""

    id: str
    name: str
    labels: dict[str, str] | None = None


class Volume(Wanted, frozen=True, kw_only=True):
    """An entry of `GET /volumes`, or the answer to `POST /volumes/create`."""

    name: str
    labels: dict[str, str] | None = None


class Volumes(Wanted, frozen=True, kw_only=True):
    """`GET /volumes`."""

    volumes: list[Volume] | None = None


class Progress(msgspec.Struct, frozen=True):
    """A line of what Docker says while it imports or pulls. An error in the middle of it comes with status 200."""

    status: str = ""
    error: str = ""


class Actor(Wanted, frozen=True, kw_only=True):
    """Whom an event is about; `attributes` holds the labels and what belongs to the action (`exitCode`)."""

    id: str = msgspec.field(name="ID", default="")
    attributes: dict[str, str] = {}


class Event(Wanted, frozen=True, kw_only=True):
    """A line of `GET /events`."""

    action: str
    actor: Actor
    time_nano: int = msgspec.field(name="timeNano", default=0)
