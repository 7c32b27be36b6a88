"""Which volumes a request asks for, checked; and who among the sandboxes has which. Pure functions."""

import posixpath
from collections.abc import Iterable

import msgspec

from bhatti.errors import Conflict, InvalidRequest
from bhatti.model.sandbox import VolumeAttachment, checked_name
from bhatti.operations.types import SandboxCreate, VolumeMount
from bhatti.store.sandboxes import Record

DEFAULT_SIZE_MIB = 1024
"""Of volumes of which nobody says how large they are to be. They are sparse: it costs next to nothing."""

MAX_VOLUMES = 16
"""Of one sandbox; machines have 26 disks, four of which are not volumes."""

NOT_THERE = ("/proc", "/sys", "/dev", "/run", "/tmp", "/boot", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64")
"""Where a mount would hide what the machine or its agent needs; below /run, /tmp and /usr it may be."""

NOT_BELOW = ("/proc", "/sys", "/dev", "/run/bhatti")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for: the attachments, and of those that may be made, how large they are to be."""

    volumes: tuple[VolumeAttachment, ...] = ()
    sizes_mib: dict[str, int] = {}


NO_VOLUMES = Wanted()


def wanted(request: SandboxCreate) -> Wanted:
    """Return the volumes of a request.

    Raises `InvalidRequest` (code `bad-name` or `bad-volume`), naming the volume at fault.
    """
    asked = [*request.volumes, *request.persistent_volumes]
    asked += [msgspec.structs.replace(mount, auto_create=True) for mount in request.new_volumes]
    if len(asked) > MAX_VOLUMES:
        raise InvalidRequest(
            f"{len(asked)} volumes: a sandbox can have {MAX_VOLUMES}",
            hint="leave some out, or put what is in them into one",
            code="bad-volume",
        )
    found = tuple(_attachment(mount) for mount in asked)
    for field in ("name", "target"):
        values = [getattr(attachment, field) for attachment in found]
        for value in values:
            if values.count(value) > 1:
                raise InvalidRequest(
                    f"two volumes have the {field} {value!r}",
                    hint="each needs a name and a place of its own",
                    code="bad-volume",
                )
    sizes = {mount.name: mount.size_mb or DEFAULT_SIZE_MIB for mount in asked if mount.auto_create}
    return Wanted(volumes=found, sizes_mib=sizes)


def _attachment(mount: VolumeMount) -> VolumeAttachment:
    name = checked_name(mount.name, "a volume")
    if mount.target and mount.mount and mount.target != mount.mount:
        raise InvalidRequest(
            f"volume {name!r} is to be at both {mount.target!r} and {mount.mount!r}",
            hint="say `target` or `mount`",
            code="bad-volume",
        )
    return VolumeAttachment(name, _target(name, mount.target or mount.mount or ""), mount.read_only or mount.readonly)


def _target(name: str, path: str) -> str:
    normal = posixpath.normpath(path)
    below = any(normal == top or normal.startswith(f"{top}/") for top in NOT_BELOW)
    if (
        not path.startswith("/")
        or normal in ("/", "//", *NOT_THERE)
        or below
        or ".." in path.split("/")
        or not path.isprintable()
    ):
        raise InvalidRequest(
            f"volume {name!r} cannot be mounted at {path!r}",
            hint="give an absolute path where nothing of the system is, such as /data",
            code="bad-volume",
        )
    return normal


def holders(records: Iterable[Record], volume: str) -> list[tuple[Record, VolumeAttachment]]:
    """Return the sandboxes that have a volume, running or not."""
    return [(record, held) for record in records for held in record.spec.volumes if held.name == volume]


def check_free(records: Iterable[Record], asked: VolumeAttachment) -> None:
    """Raise `Conflict` (code `volume-in-use`) unless one more sandbox can have the volume.

    One sandbox may have it if it writes, or any number of them if they all read.
    """
    for record, held in holders(records, asked.name):
        if held.read_only and asked.read_only:
            continue
        how = "reads it" if held.read_only else "writes to it"
        raise Conflict(
            f"volume {asked.name!r} is attached to sandbox {record.name!r} ({record.status}), which {how}",
            hint=f"remove that sandbox with `bhatti rm {record.name}`, or attach it read-only to both",
            code="volume-in-use",
        )
