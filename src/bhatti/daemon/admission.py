"""What may be asked for, and what is made of it: a request becomes a complete specification or an error.

Pure but for the random ids: what the host has is an argument.
"""

import os
import secrets
import shutil
from pathlib import Path

import msgspec

from bhatti.daemon.memory import host_memory_mib
from bhatti.daemon.settings import Defaults, Limits, Settings
from bhatti.errors import InvalidRequest
from bhatti.model.sandbox import MIN_MEMORY_MIB, GuestFile, SandboxSpec, checked_name
from bhatti.operations.types import SandboxCreate

MIN_DISK_MIB = 64
"""The least that holds a file system's own structures and a few files."""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What the host has: logical CPUs, memory, and size of the file system of the state directory, in MiB."""

    cpus: int
    memory_mib: int
    disk_mib: int


def look_at_host(state_dir: Path) -> Host:
    """Measure the host. Quick; touches the file system."""
    return Host(
        cpus=os.cpu_count() or 1,
        memory_mib=host_memory_mib(),
        disk_mib=shutil.disk_usage(state_dir).total >> 20,
    )


def admit(request: SandboxCreate, settings: Settings, host: Host, owner: str = "") -> SandboxSpec:
    """Return the full specification of what `request` asks for on behalf of `owner`, with fresh id and token.

    Raises `InvalidRequest` with code `bad-name`, `bad-cpus`, `bad-memory`, `bad-disk` or `bad-environment`, naming
    the limit.
    """
    defaults, limits = settings.defaults, settings.limits
    check_environment(request.env)
    return SandboxSpec(
        id=secrets.token_hex(8),
        name=checked_name(request.name) if request.name else new_name(),
        image=request.image or defaults.image,
        cpus=_cpus(request.cpus, defaults, limits, host),
        memory_mib=_memory(request.memory_mb, defaults, limits, host),
        disk_mib=_disk(request.disk_size_mb, defaults, limits, host),
        token=secrets.token_hex(16),
        user=request.user or "lohar",
        env=request.env,
        files=tuple(GuestFile(path=f.guest_path, content=f.content, mode=f.mode) for f in request.files),
        init=request.init,
        owner=owner,
    )


def new_name() -> str:
    """Return the name of a sandbox that nobody has named."""
    return f"sandbox-{secrets.token_hex(3)}"


def _cpus(asked: int | None, defaults: Defaults, limits: Limits, host: Host) -> int:
    most = limits.max_cpus or host.cpus
    cpus = min(defaults.cpus, most) if asked is None else asked
    if not 1 <= cpus <= most:
        raise InvalidRequest(
            f"{cpus} CPUs cannot be given: this host has {host.cpus}, a sandbox may have 1 to {most}",
            hint=f"ask for --cpus {min(most, max(1, cpus))}",
            code="bad-cpus",
        )
    return cpus


def _memory(asked: int | None, defaults: Defaults, limits: Limits, host: Host) -> int:
    most = limits.max_memory_mb or host.memory_mib
    memory = min(defaults.memory_mb, most) if asked is None else asked
    if not MIN_MEMORY_MIB <= memory <= most:
        raise InvalidRequest(
            f"{memory} MiB of memory cannot be given: this host has {host.memory_mib} MiB, "
            f"a sandbox may have {MIN_MEMORY_MIB} to {most}",
            hint=f"ask for --memory {min(most, max(MIN_MEMORY_MIB, memory))}",
            code="bad-memory",
        )
    return memory


def _disk(asked: int | None, defaults: Defaults, limits: Limits, host: Host) -> int:
    # The layer is sparse: its size is a bound on what may be written, not a claim on the disk.
    most = limits.max_disk_size_mb or host.disk_mib
    disk = min(defaults.disk_size_mb, most) if asked is None else asked
    if not MIN_DISK_MIB <= disk <= most:
        raise InvalidRequest(
            f"{disk} MiB of disk cannot be given: the file system of the state directory has {host.disk_mib} MiB, "
            f"a sandbox may have {MIN_DISK_MIB} to {most}",
            hint=f"ask for --disk {min(most, max(MIN_DISK_MIB, disk))}",
            code="bad-disk",
        )
    return disk


def check_environment(env: dict[str, str]) -> None:
    """Raise `InvalidRequest` (code `bad-environment`) for what cannot be a variable of any process."""
    for name, value in env.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise InvalidRequest(
                f"{name!r} cannot be the name of an environment variable, or its value holds a NUL",
                hint="names have letters, digits and underscores, and values no NUL",
                code="bad-environment",
            )
