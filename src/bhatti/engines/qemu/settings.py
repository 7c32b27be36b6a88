"""What can be set about the QEMU engine."""

import shutil
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal

from bhatti.errors import MissingDependency

PROGRAM = "qemu-system-x86_64"

DEFAULT_DNS = ("1.1.1.1", "8.8.8.8")
"""Name servers for guests on a bridge; those of the host may be on its loopback, where no guest can reach them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuSettings:
    """Where the engine works, and what it must not decide for itself.

    `network` and `accelerator` are found out when `auto`; `bridge_name` and `subnet` when None; `binary` is looked for
    when empty. `outside` says whether guests may open connections beyond the host (user-mode network only). `fork`
    lets sandboxes be made from golden snapshots; without it each one boots. `ready_pool` is how many forks are kept
    ready for whoever creates a sandbox.
    """

    state_dir: Path
    images_dir: Path
    binary: str = ""
    network: Literal["auto", "bridge", "user"] = "auto"
    bridge_name: str | None = None
    subnet: IPv4Network | None = None
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    boot_timeout_s: float = 60.0
    dns: tuple[str, ...] = DEFAULT_DNS
    outside: bool = True
    fork: bool = True
    ready_pool: int = 0

    @property
    def sandboxes_dir(self) -> Path:
        """One directory per machine is in here."""
        return self.state_dir / "sandboxes"

    @property
    def molds_dir(self) -> Path:
        """Copies of running machines are here, for as long as a fork is made from them."""
        return self.state_dir / "molds"

    @property
    def golden_dir(self) -> Path:
        """Golden snapshots are here, one directory for each image and shape."""
        return self.state_dir / "golden"

    @property
    def volumes_dir(self) -> Path:
        """Volumes are here, as `NAME.ext4`."""
        return self.state_dir / "volumes"

    def find_binary(self) -> str:
        """Return the path of QEMU. Raises `MissingDependency` (code `qemu-missing`)."""
        found = shutil.which(self.binary or PROGRAM)
        if found is None:
            raise MissingDependency(
                f"the program {self.binary or PROGRAM} is not installed",
                hint="apt install qemu-system-x86",
                code="qemu-missing",
            )
        return found
