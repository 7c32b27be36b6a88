"""Disks whose content changes while the guest sleeps: the places of the volumes that a fork is given.

A machine that others are forked from has some empty disks. Before it is copied, the kernel is made to forget them; in a
fork they are volumes, and the kernel is made to look at them as if they had been plugged in just now. So a fork needs
no hot-plugging, which every kind of machine does in another way, or not at all.
"""

from __future__ import annotations

import contextlib
import os

SYSTEM_DISKS = ("vda", "vdb", "vdc", "vdd")
"""Image, agent, config, layer: in use for as long as the machine runs."""

BLOCK_DEVICE = "0x0002"
"""What a virtio device says it is when it is a disk (virtio 1.2, section 5)."""


def take_out(root: str = "/") -> None:
    """Have the kernel forget the disks that are no system's and that nothing is mounted from."""
    disks = [name for name in os.listdir(os.path.join(root, "sys/block")) if name.startswith("vd")]
    spare = [name for name in sorted(disks) if name not in SYSTEM_DISKS]
    if not spare:
        return
    mounted = _mounted(root)
    for name in spare:
        if f"/dev/{name}" not in mounted:
            device = os.path.basename(os.readlink(os.path.join(root, f"sys/block/{name}/device")))
            _write(os.path.join(root, "sys/bus/virtio/drivers/virtio_blk/unbind"), device)


def put_in(device: str, root: str = "/") -> None:
    """Have the kernel look at forgotten disks, in their order, until `device` is there; raises `OSError` if none is.

    Idempotent. The kernel gives the lowest free letter, so the first of them becomes /dev/vde.
    """
    if _is_there(device, root):
        return
    for name in _forgotten(root):
        _write(os.path.join(root, "sys/bus/virtio/drivers/virtio_blk/bind"), name)
        if _is_there(device, root):
            return
    raise FileNotFoundError(f"there is no disk to be {device}")


def _is_there(device: str, root: str) -> bool:
    return os.path.exists(os.path.join(root, "sys/block", os.path.basename(device)))


def _forgotten(root: str) -> list[str]:
    """Return the virtio disks without a driver, in the order in which the machine has them."""
    directory = os.path.join(root, "sys/bus/virtio/devices")
    found = []
    for name in os.listdir(directory):
        if os.path.lexists(os.path.join(directory, name, "driver")):
            continue
        with contextlib.suppress(OSError), open(os.path.join(directory, name, "device"), encoding="ascii") as file:
            if file.read().strip() == BLOCK_DEVICE:
                found.append(name)
    return sorted(found, key=lambda name: (len(name), name))


def _mounted(root: str) -> set[str]:
    with open(os.path.join(root, "proc/self/mounts"), encoding="utf-8", errors="replace") as file:
        return {line.split(" ", 1)[0] for line in file}


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
