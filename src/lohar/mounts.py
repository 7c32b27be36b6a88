"""Mount what a Linux system needs, and the sandbox's volumes.

The initramfs has mounted nearly all of it before the agent starts. What it has not, because the guest was booted in
another way, is mounted here; only then, or for volumes, is ctypes needed and loaded.
"""

from __future__ import annotations

import contextlib
import os

from lohar.wire.fields import number, text
from lohar.wire.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.config import Volume

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MNT_DETACH = 2
_SAFE = MS_NOSUID | MS_NODEV | MS_NOEXEC

CONFIG_MOUNT = "/run/bhatti/config"
CONFIG_DEVICES = ("/dev/vdc", "/dev/vdb")
"""The config drive: third in our order, second in the reference protocol's."""


class MountError(OSError):
    """A mount failed; the message says what, where and why."""

    def __str__(self) -> str:
        """Return the message alone, without the number before it."""
        return str(self.args[-1])


class Mount(Record):
    """Arguments of mount(2)."""

    source: str = text()
    target: str = text()
    fs: str = text()
    flags: int = number(default=_SAFE)
    data: str = text(default="")


STANDARD = (
    Mount(source="proc", target="/proc", fs="proc"),
    Mount(source="sysfs", target="/sys", fs="sysfs"),
    Mount(source="devtmpfs", target="/dev", fs="devtmpfs", flags=MS_NOSUID, data="mode=0755"),
    Mount(
        source="devpts",
        target="/dev/pts",
        fs="devpts",
        flags=MS_NOSUID | MS_NOEXEC,
        data="gid=5,mode=0620,ptmxmode=0666",
    ),
    Mount(source="tmpfs", target="/dev/shm", fs="tmpfs", flags=MS_NOSUID | MS_NODEV, data="mode=1777"),
    Mount(source="tmpfs", target="/run", fs="tmpfs", flags=MS_NOSUID | MS_NODEV, data="mode=0755"),
    Mount(source="tmpfs", target="/tmp", fs="tmpfs", flags=MS_NOSUID | MS_NODEV, data="mode=1777"),
    Mount(source="cgroup2", target="/sys/fs/cgroup", fs="cgroup2", flags=_SAFE, data="nsdelegate"),
)
"""In an order in which each finds its mount point. devpts is always a new instance since Linux 4.7."""

_volumes: list[str] = []

_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
)


def mount_points(table: str) -> set[str]:
    """Return the mount points in the text of /proc/self/mounts."""
    return {unescape(line.split(" ")[1]) for line in table.splitlines() if line.count(" ") >= 2}


def unescape(field: str) -> str:
    r"""Undo the octal escapes (`\040`) of fstab(5) fields."""
    first, *rest = field.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] if part[:3].isdigit() else "\\" + part for part in rest)


def mount_standard() -> None:
    """Mount those of the standard file systems that are not mounted, and make the usual links in /dev."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
            present = mount_points(file.read())
    except FileNotFoundError:
        present = set()
    for entry in STANDARD:
        if entry.target not in present:
            os.makedirs(entry.target, exist_ok=True)
            mount(entry)
    for target, link in _LINKS:
        if not os.path.lexists(link):
            os.symlink(target, link)


def mount_config() -> str:
    """Return the path of config.json, its drive mounted; raises `MountError` when no drive has it."""
    path = f"{CONFIG_MOUNT}/config.json"
    if os.path.exists(path):
        return path
    os.makedirs(CONFIG_MOUNT, exist_ok=True)
    for device in CONFIG_DEVICES:
        if not os.path.exists(device):
            continue
        try:
            mount(Mount(source=device, target=CONFIG_MOUNT, fs="ext4", flags=_SAFE | MS_RDONLY))
        except MountError:
            continue
        if os.path.exists(path):
            return path
        unmount(CONFIG_MOUNT)
    raise MountError(f"no config drive: none of {', '.join(CONFIG_DEVICES)} has a config.json")


def mount_volume(volume: Volume, uid: int, gid: int) -> None:
    """Mount a volume, making its mount point; a writable one is given to the user. Idempotent for the same device."""
    if mounted_device(volume.mount) == volume.device:
        return
    os.makedirs(volume.mount, exist_ok=True)
    entry = Mount(source=volume.device, target=volume.mount, fs=volume.fs, flags=MS_NOSUID | MS_NODEV)
    if volume.read_only:
        _mount_read_only(entry)
    else:
        mount(entry)
        os.chown(volume.mount, uid, gid)
    _volumes.append(volume.mount)


def _mount_read_only(entry: Mount) -> None:
    entry = entry.replace(flags=entry.flags | MS_RDONLY)
    try:
        mount(entry)
    except MountError:
        if entry.fs not in ("ext3", "ext4"):
            raise
        # Its last writer was killed, so there is a journal to replay, which the read-only device forbids. Without the
        # replay the file system is as that writer's last sync left it.
        mount(entry.replace(data="noload"))


def release_volumes() -> None:
    """Unmount the volumes that were mounted here, so that their next mount finds them clean.

    One that somebody still uses is left: its journal will tell the next one. Call it when all processes have ended.
    """
    while _volumes:
        with contextlib.suppress(MountError):
            unmount(_volumes.pop(), flags=0)


def mounted_device(target: str) -> str | None:
    """Return what is mounted last at `target`, or None."""
    found = None
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
        for line in file:
            source, point = line.split(" ")[:2]
            if unescape(point) == target:
                found = unescape(source)
    return found


def mount(entry: Mount) -> None:
    """Call mount(2); raises `MountError`."""
    import ctypes  # 40 ms under emulation, and most guests never need it

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(
        entry.source.encode(),
        entry.target.encode(),
        entry.fs.encode(),
        ctypes.c_ulong(entry.flags),
        entry.data.encode(),
    ):
        number = ctypes.get_errno()
        reason = os.strerror(number)
        raise MountError(number, f"cannot mount {entry.source} ({entry.fs}) at {entry.target}: {reason}")


def unmount(target: str, *, flags: int = MNT_DETACH) -> None:
    """Unmount `target`, by default at once even when it is in use; raises `MountError`."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(target.encode(), flags):
        number = ctypes.get_errno()
        raise MountError(number, f"cannot unmount {target}: {os.strerror(number)}")
