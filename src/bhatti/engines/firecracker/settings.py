"""What can be set about the Firecracker engine."""

from dataclasses import dataclass
from typing import Literal

from bhatti.engines.qemu.settings import QemuSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a machine may move in a second; 0 is without a limit.

    Of each drive that it can write, and of its network in each direction.
    """

    disk_mib_per_s: int = 0
    disk_ops_per_s: int = 0
    net_mib_per_s: int = 0
    net_packets_per_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FirecrackerSettings(QemuSettings):
    """Where the engine works, and what it must not decide for itself.

    What has the same name as with QEMU means the same. Networks are always bridges and the accelerator is always KVM:
    Firecracker knows nothing else. `metrics` lets it write its own, once a minute. `jailer` is the program that puts it
    into a jail; empty for none.
    """

    log_level: Literal["off", "error", "warning", "info", "debug", "trace"] = "error"
    metrics: bool = False
    jailer: str = ""
    limits: Limits = Limits()
