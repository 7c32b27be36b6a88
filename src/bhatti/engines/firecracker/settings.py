"""What can be set about the Firecracker engine."""

from dataclasses import dataclass
from typing import Literal

from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import InvalidRequest

AUTO = "auto"

LEAST_SPARE_MIB = 16
"""Firecracker itself takes some 5 MiB, and cached pages of the files that it writes."""

LEAST_TASKS = 8
"""Firecracker has two threads beside its processors', and KVM works in some more."""


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
class JailLimits:
    """What the process of a machine in a jail may take of the host; 0 is without a limit.

    `cpu_percent` is of one processor, for each that the machine has; `memory_spare_mib` is what it may take beyond the
    guest's memory, `tasks` how many threads beyond those of its processors. Raises `InvalidRequest` (code
    `bad-setting`) for limits that no machine could start with.
    """

    cpu_percent: int = 0
    memory_spare_mib: int = 0
    tasks: int = 0

    def __post_init__(self) -> None:
        """Refuse what no machine could start with."""
        least = {"memory_spare_mib": LEAST_SPARE_MIB, "tasks": LEAST_TASKS}
        for name, lowest in least.items():
            if 0 < getattr(self, name) < lowest:
                raise InvalidRequest(
                    f"firecracker.jail_{name}: with {getattr(self, name)} no machine would start",
                    hint=f"{lowest} or more; 0 for no limit",
                    code="bad-setting",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class FirecrackerSettings(QemuSettings):
    """Where the engine works, and what it must not decide for itself.

    What has the same name as with QEMU means the same. Networks are always bridges and the accelerator is always KVM:
    Firecracker knows nothing else. With `balloon`, guests give back what memory they have freed; with `vsock`, agents
    are reached over that rather than over the network. `metrics` lets it write its own, once a minute. `jailer` is the
    program that puts it into a jail; `auto` for the one beside Firecracker or on PATH if there is one that can be used,
    empty for none.
    """

    balloon: bool = False
    vsock: bool = False
    log_level: Literal["off", "error", "warning", "info", "debug", "trace"] = "error"
    metrics: bool = False
    jailer: str = AUTO
    jail_limits: JailLimits = JailLimits()
    limits: Limits = Limits()
