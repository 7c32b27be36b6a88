"""What the control group of a jail bounds. The jailer makes the groups; nobody but us removes them.

Theory of operation. A group is called as its machine is, in a group of all machines of one state directory, so it is
found again by whoever comes to know the machine. It outlives its process, for as long as that is not looked into: a
machine that ends, in whatever way, has its group removed, and what nobody was there to remove goes with the next
engine's first sweep. The group of all goes when the engine is closed and its last machine is gone, and not before: a
jailer that is making a group in it must not lose it.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bhatti.engines.firecracker.settings import JailLimits
from bhatti.errors import MissingDependency

MOUNTS = Path("/proc/mounts")

CONTROLLERS = frozenset({"cpu", "memory", "pids"})

PERIOD_US = 100_000
"""In which a machine may use so much of its processors' time; the kernel's own default."""

RELEASE_S = 2.0
"""A group can be removed when its last process is. With kernels since 6.19, that is a moment after it was reaped."""

RETRY_S = 0.005


@dataclass(frozen=True, slots=True)
class Groups:
    """Control groups of one version, with where the jailer finds each controller: at the first mount that has it."""

    version: int
    mounts: dict[str, Path]


def find_groups() -> Groups:
    """Return the control groups that limits can be set in. Blocks for a moment.

    Raises `MissingDependency` (code `cgroups-missing`) if this host has none with all controllers, or they are not
    ours to write to.
    """
    found = list(mounted())
    unified = next((path for path, kind, _ in found if kind == "cgroup2"), None)
    if unified is not None and _controllers_of(unified) >= CONTROLLERS:
        groups = Groups(2, dict.fromkeys(CONTROLLERS, unified))
    else:
        mounts: dict[str, Path] = {}
        for path, kind, options in found:
            for controller in CONTROLLERS & options if kind == "cgroup" else ():
                mounts.setdefault(controller, path)
        groups = Groups(1, mounts)
    missing = sorted(CONTROLLERS - groups.mounts.keys())
    closed = sorted({str(path) for path in groups.mounts.values() if not os.access(path, os.W_OK)})
    if missing or closed:
        why = f"no control groups for {', '.join(missing)}" if missing else f"{', '.join(closed)} cannot be written to"
        raise MissingDependency(
            f"limits are set for the jails of machines, and this host has {why}",
            hint="mount cgroup2 on /sys/fs/cgroup, or set firecracker.jail_* to 0",
            code="cgroups-missing",
        )
    return groups


def arguments(limits: JailLimits, *, parent: str, cpus: int, memory_mib: int) -> list[str]:
    """Return what the jailer is told of the limits of a machine with so many processors and so much memory. Blocks.

    Raises like `find_groups`, if there is any limit.
    """
    if limits == JailLimits():
        return []
    groups = find_groups()
    quota_us = limits.cpu_percent * cpus * PERIOD_US // 100
    bounds = [
        (limits.cpu_percent, ("cpu.cfs_quota_us", f"{quota_us}"), ("cpu.max", f"{quota_us} {PERIOD_US}")),
        (
            limits.memory_spare_mib,
            ("memory.limit_in_bytes", f"{memory_mib + limits.memory_spare_mib}M"),
            ("memory.max", f"{memory_mib + limits.memory_spare_mib}M"),
        ),
        (limits.tasks, ("pids.max", f"{cpus + limits.tasks}"), ("pids.max", f"{cpus + limits.tasks}")),
    ]
    chosen = ["=".join(ways[groups.version - 1]) for limit, *ways in bounds if limit]
    options = ("--cgroup-version", str(groups.version), "--parent-cgroup", parent)
    return [*options, *(word for setting in chosen for word in ("--cgroup", setting))]


def release(parent: str, name: str) -> bool:
    """Remove the groups of the machine called `name`, whose process has ended, and say whether they are gone. Blocks.

    Waits up to `RELEASE_S` for the kernel to be done with the process.
    """
    end = time.monotonic() + RELEASE_S
    while not all([_removed(path / parent / name) for path, _, _ in mounted()]):
        if time.monotonic() > end:
            return False
        time.sleep(RETRY_S)
    return True


def sweep(parent: str) -> None:
    """Remove all groups in `parent` that no process is in, and it too, if none is left. Blocks.

    Not while any machine is being started.
    """
    for path, _, _ in mounted():
        with suppress(FileNotFoundError):
            for group in [entry for entry in (path / parent).iterdir() if entry.is_dir()]:
                _removed(group)
        _removed(path / parent)


def mounted() -> Iterator[tuple[Path, str, frozenset[str]]]:
    """Yield every mounted hierarchy of control groups: where, its file system, and its options."""
    for line in MOUNTS.read_text().splitlines():
        _, path, kind, options, *_ = line.split(" ")
        if kind in ("cgroup", "cgroup2"):
            yield Path(path), kind, frozenset(options.split(","))


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _controllers_of(path: Path) -> frozenset[str]:
    try:
        return frozenset((path / "cgroup.controllers").read_text().split())
    except OSError:
        return frozenset()
