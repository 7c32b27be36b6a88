"""What can be set about the Docker engine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bhatti.errors import InvalidRequest

DEFAULT_SOCKET = "/var/run/docker.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerSettings:
    """Where the engine works, and what it must not decide for itself.

    `socket` is looked for when None: DOCKER_HOST, then Docker's usual place. `runtime` is one that dockerd knows
    (`runsc` for gVisor); empty means dockerd's default. `network` is found out when `auto`; `none` gives sandboxes a
    loopback and nothing else. `pull` lets images that are not there be fetched from their registry. Without
    `no_new_privileges` sudo works inside. `pids_limit` bounds the processes of one sandbox. `pool` is how many ready
    containers wait for whoever creates a sandbox.
    """

    state_dir: Path
    images_dir: Path
    socket: Path | None = None
    runtime: str = ""
    network: Literal["auto", "bridge", "none"] = "auto"
    dns: tuple[str, ...] = ()
    pull: bool = True
    no_new_privileges: bool = True
    pids_limit: int = 4096
    pool: int = 0
    boot_timeout_s: float = 30.0
    stop_timeout_s: float = 10.0

    @property
    def sandboxes_dir(self) -> Path:
        """One directory per container is in here."""
        return self.state_dir / "sandboxes"

    @property
    def homes_dir(self) -> Path:
        """What is mounted in containers is here, a directory for each."""
        return self.state_dir / "homes"

    @property
    def agents_dir(self) -> Path:
        """Unpacked agents are here, each by its digest."""
        return self.state_dir / "agents"

    def find_socket(self, env: Mapping[str, str] = os.environ) -> Path:
        """Return where dockerd listens. Raises `InvalidRequest` (code `docker-not-local`) for one that is elsewhere.

        Sandboxes are reached through files of this machine, so a Docker on another one is of no use.
        """
        if self.socket is not None:
            return self.socket
        given = env.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"
        scheme, found, path = given.partition("://")
        if not found or scheme != "unix" or not path.startswith("/"):
            raise InvalidRequest(
                f"DOCKER_HOST is {given!r}, which is not a unix socket of this machine",
                hint="unset DOCKER_HOST, or set it to unix:///var/run/docker.sock",
                code="docker-not-local",
            )
        return Path(path)
