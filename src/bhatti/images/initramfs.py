"""The first program of a guest: load modules, stack the drives, hand over to the agent.

Busybox, the modules and a shell script (`init.sh`) in an uncompressed archive: the host copies it into the guest's
memory in no time, whereas unpacking a compressed one is the guest's work, slow under emulation.
"""

from importlib import resources
from pathlib import Path

from bhatti.images.cpio import Entry, Kind, pack
from bhatti.images.modules import Module, load_order, without_signature

MODULES = [
    "virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "overlay", "virtio_rng", "vmw_vsock_virtio_transport",
    "virtio_balloon",
]  # fmt: skip
"""All that any engine's guests need; `init.sh` loads those of the machine at hand. ext4 is in the kernel."""

APPLETS = ("sh", "mkdir", "modprobe", "mount", "sleep", "switch_root")
"""Programs that `init.sh` calls."""

EARLY_MOUNTS = """\
proc      /proc  proc      nosuid,nodev,noexec  0 0
devtmpfs  /dev   devtmpfs  mode=0755,nosuid     0 0
"""

DRIVES = """\
/dev/vda  /lower  ext4  ro                  0 0
/dev/vdd  /upper  ext4  noatime             0 0
"""
"""The image's drive is never written, not even its journal: all guests share one file."""

ROOT_MOUNTS = """\
overlay   /new       overlay   lowerdir=/lower,upperdir=/upper/root,workdir=/upper/work  0 0
proc      /new/proc  proc      nosuid,nodev,noexec        0 0
sysfs     /new/sys   sysfs     nosuid,nodev,noexec        0 0
devtmpfs  /new/dev   devtmpfs  mode=0755,nosuid           0 0
tmpfs     /new/run   tmpfs     mode=0755,nosuid,nodev     0 0
tmpfs     /new/tmp   tmpfs     mode=1777,nosuid,nodev     0 0
"""

LATE_MOUNTS = """\
/dev/vdb  /new/run/bhatti/agent   ext4     ro,nosuid,nodev                              0 0
/dev/vdc  /new/run/bhatti/config  ext4     ro,nosuid,nodev,noexec                       0 0
devpts    /new/dev/pts            devpts   nosuid,noexec,gid=5,mode=0620,ptmxmode=0666  0 0
tmpfs     /new/dev/shm            tmpfs    mode=1777,nosuid,nodev                       0 0
cgroup2   /new/sys/fs/cgroup      cgroup2  nosuid,nodev,noexec,nsdelegate               0 0
"""

_DIRECTORIES = ("bin", "dev", "etc", "lib", "lib/modules", "lower", "new", "proc", "upper")


def build_initramfs(modules_directory: Path, busybox: bytes) -> bytes:
    """Return the archive: equal inputs give equal bytes.

    `modules_directory` is the kernel package's `lib/modules/RELEASE`; `busybox` a static executable. Raises
    `CorruptData` when a module or one that it depends on is damaged or missing.
    """
    release = modules_directory.name
    order = load_order(MODULES, modules_directory)
    directories = (*_DIRECTORIES, f"lib/modules/{release}")
    entries = [Entry(name, Kind.DIRECTORY) for name in directories]
    entries.append(Entry("dev/console", Kind.CHAR_DEVICE, 0o600, device=(5, 1)))
    entries.append(Entry("bin/busybox", Kind.FILE, 0o755, busybox))
    entries += [Entry(f"bin/{name}", Kind.SYMLINK, 0o777, b"busybox") for name in APPLETS]
    entries += [
        Entry(
            f"lib/modules/{release}/{module.path.name}", Kind.FILE, 0o644, without_signature(module.path.read_bytes())
        )
        for module in order
    ]
    tables = {
        "etc/early": EARLY_MOUNTS,
        "etc/drives": DRIVES,
        "etc/root": ROOT_MOUNTS,
        "etc/late": LATE_MOUNTS,
        f"lib/modules/{release}/modules.dep": modules_dep(order),
    }
    entries += [Entry(name, Kind.FILE, 0o644, text.encode()) for name, text in tables.items()]
    entries.append(Entry("init", Kind.FILE, 0o755, init_script()))
    return pack(entries)


def modules_dep(order: list[Module]) -> str:
    """Return the table that modprobe reads (modules.dep(5)) for modules in loading order.

    Each line has a file and all it needs, directly or not; modprobe loads them from the end of the line backwards.
    """
    needs: dict[str, set[str]] = {}
    lines = []
    for module in order:
        needs[module.name] = set(module.depends).union(*(needs[name] for name in module.depends))
        files = [other.path.name for other in reversed(order) if other.name in needs[module.name]]
        lines.append(f"{module.path.name}: {' '.join(files)}".rstrip() + "\n")
    return "".join(lines)


def init_script() -> bytes:
    """Return the shell script that the guest's kernel runs first."""
    return resources.files("bhatti.images").joinpath("init.sh").read_bytes()
