"""What Firecracker is started with and told, as pure functions of the machine that it is to be.

Everything that a snapshot will name is a name in the machine's own directory, where the process works: drives are links
there, so that a fork's are found in the fork's directory without a word.
"""

import hashlib
from pathlib import Path

from bhatti.engines.firecracker import api_types as types
from bhatti.engines.firecracker.jail import VSOCK
from bhatti.engines.firecracker.settings import FirecrackerSettings, Limits
from bhatti.engines.qemu.command import Hardware, TapCard
from bhatti.engines.qemu.files import MachineFiles
from bhatti.net.instance import instance_of

ENV = "/usr/bin/env"
"""Changes the working directory and becomes the program: its `-C` came with coreutils 8.28."""

WORKING = 3
"""How many words of the command line say where to work."""

NAME_DIGITS = 24

CARD = "eth0"

AGENT = f"{VSOCK}/agent.sock"
"""The socket that reaches the guest's ports, as a name in the machine's directory."""

GUEST_CID = 3
"""The first that a guest can have; each is alone with its host."""

ASKED_EVERY_S = 5
"""A guest with a balloon says so often how much memory it uses."""

MODULES = "bhatti.modules"
"""The word for the kernel that tells `images/init.sh` which modules beside the usual ones to load."""

STATE, MEMORY = "state", "ram"
"""Names of `MachineFiles.state` and `.memory`, relative to the machine's directory."""


def group_name(state_dir: Path) -> str:
    """Return what all machines below a state directory are called together."""
    return f"bhatti-{instance_of(state_dir)}"


def name_prefix(state_dir: Path) -> str:
    """Return how the names of all machines below a state directory begin, and of no others."""
    return f"{group_name(state_dir)}-"


def instance_name(files: MachineFiles) -> str:
    """Return what Firecracker calls the machine: it allows 64 letters, digits and hyphens, and no dots."""
    digest = hashlib.sha256(files.directory.name.encode()).hexdigest()
    return name_prefix(files.directory.parent.parent) + digest[:NAME_DIGITS]


def command_line(
    binary: str, files: MachineFiles, *, socket: str, log: Path, level: str = "error", metrics: Path | None = None
) -> list[str]:
    """Return the program and its arguments; logs and `metrics` are files that are there already."""
    return [
        *(ENV, "-C", str(files.directory)),
        *(binary, "--id", instance_name(files)),
        *("--api-sock", socket, "--log-path", str(log), "--level", level.capitalize()),
        *(() if metrics is None else ("--metrics-path", str(metrics))),
        # Devices on PCI: faster than memory-mapped ones, and Debian's kernel finds them without being told.
        "--enable-pci",
    ]


def drive_name(index: int) -> str:
    """Return the name of a drive in the machine's directory, which is the one that it has in the guest."""
    return f"vd{chr(ord('a') + index)}"


def links(hardware: Hardware) -> dict[str, Path]:
    """Return what the drives' names in the machine's directory stand for; empty slots have none."""
    return {drive_name(index): drive.path for index, drive in enumerate(hardware.drives) if drive.path is not None}


def boot_source(hardware: Hardware, settings: FirecrackerSettings) -> types.BootSource:
    """Return what to boot, with the drivers for the devices that only this engine has."""
    modules = ["virtio_rng"]
    if settings.vsock:
        modules.append("vmw_vsock_virtio_transport")
    if settings.balloon:
        modules.append("virtio_balloon")
    return types.BootSource(
        kernel_image_path=str(hardware.kernel),
        initrd_path=str(hardware.initramfs),
        boot_args=f"{hardware.kernel_arguments} {MODULES}={','.join(modules)}",
    )


def balloon() -> types.Balloon:
    """Return the balloon: it takes nothing, and hands back what the guest has freed by itself."""
    return types.Balloon(
        amount_mib=0, deflate_on_oom=True, free_page_reporting=True, stats_polling_interval_s=ASKED_EVERY_S
    )


def guest_memory(found: types.BalloonStatistics) -> dict[str, str]:
    """Return what a guest has said of its memory, as it is shown."""
    said = {
        "guest_total_mib": found.total_memory,
        "guest_free_mib": found.free_memory,
        "guest_available_mib": found.available_memory,
        "guest_cached_mib": found.disk_caches,
    }
    return {name: str(count >> 20) for name, count in said.items() if count is not None}


def vsock() -> types.Vsock:
    """Return the device by which the agent is reached without a network."""
    return types.Vsock(guest_cid=GUEST_CID, uds_path=AGENT)


def machine_configuration(hardware: Hardware) -> types.MachineConfiguration:
    """Return processors and memory, whose changes are counted from the start, for snapshots."""
    return types.MachineConfiguration(
        vcpu_count=hardware.cpus, mem_size_mib=hardware.memory_mib, track_dirty_pages=True
    )


def rate_limiter(bytes_per_s: int, operations_per_s: int) -> types.RateLimiter | None:
    """Return the bounds, 0 being none; None if there is neither. A second's worth may be moved at once."""
    if not bytes_per_s and not operations_per_s:
        return None
    return types.RateLimiter(bandwidth=_bucket(bytes_per_s), ops=_bucket(operations_per_s))


def _bucket(per_s: int) -> types.TokenBucket | None:
    return types.TokenBucket(size=per_s, refill_time=1000) if per_s else None


def drives(hardware: Hardware, limits: Limits) -> list[types.Drive]:
    """Return the drives in the guest's order. What all share is not limited: nobody can fill a disk by reading it."""
    limiter = rate_limiter(limits.disk_mib_per_s << 20, limits.disk_ops_per_s)
    return [
        types.Drive(
            drive_id=drive_name(index),
            path_on_host=drive_name(index),
            is_read_only=drive.read_only,
            is_root_device=False,
            # What a guest was told to be on the disk is on it.
            cache_type="Unsafe" if drive.read_only else "Writeback",
            rate_limiter=None if drive.read_only else limiter,
        )
        for index, drive in enumerate(hardware.drives)
        if drive.path is not None
    ]


def network_interface(card: TapCard, limits: Limits) -> types.NetworkInterface:
    """Return the network card, what it takes and what it gives limited alike."""
    limiter = rate_limiter(limits.net_mib_per_s << 20, limits.net_packets_per_s)
    return types.NetworkInterface(
        iface_id=CARD, host_dev_name=card.tap, guest_mac=card.mac, rx_rate_limiter=limiter, tx_rate_limiter=limiter
    )


def snapshot_load(card: TapCard, *, state: str, memory: str) -> types.SnapshotLoad:
    """Return the order to be the machine that was saved, on another tap."""
    return types.SnapshotLoad(
        snapshot_path=state,
        mem_backend=types.MemoryBackend(backend_path=memory),
        track_dirty_pages=True,
        resume_vm=False,
        network_overrides=(types.NetworkOverride(iface_id=CARD, host_dev_name=card.tap),),
    )
