"""A volume as a guest is told of it: by its config drive, or with its identity."""

from __future__ import annotations

from lohar.wire.fields import flag, text
from lohar.wire.records import Record


class Volume(Record):
    """A block device (`/dev/vde`) to be mounted at `mount`."""

    device: str = text()
    mount: str = text()
    fs: str = text(default="ext4")
    read_only: bool = flag(default=False)


def addresses_device(volume: Volume) -> bool:
    """Return whether it is a device, and its mount point an absolute path."""
    return volume.device.startswith("/dev/") and volume.mount.startswith("/")
