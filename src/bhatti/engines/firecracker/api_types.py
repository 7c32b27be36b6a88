"""What crosses Firecracker's API socket, as typed values.

Source: Firecracker's OpenAPI document (src/firecracker/swagger/firecracker.yaml, 1.15 and newer). Only what this engine
says is here; a field that is left out has Firecracker's own default.
"""

from typing import Literal

import msgspec


class TokenBucket(msgspec.Struct, frozen=True, kw_only=True):
    """So much at once (`size`), full again after `refill_time` milliseconds; what is counted depends on the bucket."""

    size: int
    refill_time: int


class RateLimiter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bounds of a drive or a network card: bytes, and operations."""

    bandwidth: TokenBucket | None = None
    ops: TokenBucket | None = None


class BootSource(msgspec.Struct, frozen=True, kw_only=True):
    """`PUT /boot-source`."""

    kernel_image_path: str
    initrd_path: str
    boot_args: str


class MachineConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """`PUT /machine-config`; with `track_dirty_pages`, later snapshots can be of what changed alone."""

    vcpu_count: int
    mem_size_mib: int
    track_dirty_pages: bool


class Drive(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`PUT /drives/{drive_id}`; the guest finds drives in the order in which they were put.

    `Writeback` makes the guest's flushes reach the host's disk; with Firecracker's default they are ignored.
    """

    drive_id: str
    path_on_host: str
    is_read_only: bool
    is_root_device: bool
    cache_type: Literal["Unsafe", "Writeback"] = "Unsafe"
    rate_limiter: RateLimiter | None = None


class NetworkInterface(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`PUT /network-interfaces/{iface_id}`."""

    iface_id: str
    host_dev_name: str
    guest_mac: str
    rx_rate_limiter: RateLimiter | None = None
    tx_rate_limiter: RateLimiter | None = None


class EntropyDevice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`PUT /entropy`."""

    rate_limiter: RateLimiter | None = None


class Balloon(msgspec.Struct, frozen=True, kw_only=True):
    """`PUT /balloon`: memory that the guest gives back while it does not need it.

    With `free_page_reporting` it does so by itself, of what it has freed; without, `amount_mib` is taken from it. Every
    `stats_polling_interval_s` it is asked how much it uses; 0 is never.
    """

    amount_mib: int
    deflate_on_oom: bool
    free_page_reporting: bool
    stats_polling_interval_s: int = 0


class BalloonStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /balloon/statistics`: what the guest last said of its memory, in bytes; it need not have said any."""

    total_memory: int | None = None
    free_memory: int | None = None
    available_memory: int | None = None
    disk_caches: int | None = None


class Vsock(msgspec.Struct, frozen=True, kw_only=True):
    """`PUT /vsock`: a socket of the host's for ports of the guest's that need no network."""

    guest_cid: int
    uds_path: str


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """`PUT /actions`."""

    action_type: Literal["InstanceStart", "FlushMetrics", "SendCtrlAltDel"]


class VmState(msgspec.Struct, frozen=True, kw_only=True):
    """`PATCH /vm`."""

    state: Literal["Paused", "Resumed"]


class SnapshotCreate(msgspec.Struct, frozen=True, kw_only=True):
    """`PUT /snapshot/create`, of a paused machine.

    `Diff` writes what changed since the last snapshot, or the load, into a memory file that is there already.
    """

    snapshot_type: Literal["Full", "Diff"]
    snapshot_path: str
    mem_file_path: str


class MemoryBackend(msgspec.Struct, frozen=True, kw_only=True):
    """Where a loaded machine's memory is; a file is mapped privately."""

    backend_path: str
    backend_type: Literal["File", "Uffd"] = "File"


class NetworkOverride(msgspec.Struct, frozen=True, kw_only=True):
    """Another tap for a network card than the one that the snapshot names."""

    iface_id: str
    host_dev_name: str


class SnapshotLoad(msgspec.Struct, frozen=True, kw_only=True):
    """`PUT /snapshot/load`, into a process that has been told nothing yet."""

    snapshot_path: str
    mem_backend: MemoryBackend
    track_dirty_pages: bool
    resume_vm: bool
    network_overrides: tuple[NetworkOverride, ...]


class InstanceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /`."""

    id: str
    state: Literal["Not started", "Running", "Paused"]
    vmm_version: str
    app_name: str


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /version`."""

    firecracker_version: str


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What a refusal says."""

    fault_message: str


Request = (
    BootSource
    | MachineConfiguration
    | Drive
    | NetworkInterface
    | EntropyDevice
    | Balloon
    | Vsock
    | Action
    | VmState
    | SnapshotCreate
    | SnapshotLoad
)
"""Every body that is sent."""
