"""TAP devices: the host's end of a machine's network card.

Taps are persistent: they outlive the daemon and a stopped machine, because a snapshot refers to its tap by name. They
go at destroy, or in a sweep when nobody knows their sandbox any more.

Theory: Documentation/networking/tuntap.rst of the kernel.
"""

import errno
import fcntl
import os
import struct

from bhatti.net.instance import IFNAMSIZ, alias, sandbox_of, tap_name
from bhatti.net.netlink import delete_link, find_link, network_failure, rtnetlink

TUNSETIFF = 0x400454CA
TUNSETPERSIST = 0x400454CB
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000

TUN_DEVICE = "/dev/net/tun"


def create_tap(instance: str, sandbox_id: str) -> str:
    """Make the tap of a sandbox, up and not on any bridge, and return its name; an existing one is kept.

    Raises `EngineFailure` (code `network-failure`).
    """
    name = tap_name(instance, sandbox_id)
    doing = f"make the tap {name} of sandbox {sandbox_id}"
    try:
        device = os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise network_failure(f"open {TUN_DEVICE}", error.errno or 0) from error
    try:
        request = struct.pack(f"{IFNAMSIZ}sH22x", name.encode(), IFF_TAP | IFF_NO_PI)
        fcntl.ioctl(device, TUNSETIFF, request)
        fcntl.ioctl(device, TUNSETPERSIST, 1)
    except OSError as error:
        # EBUSY: it exists and a running machine holds it; it is ours by its name, so it is what was asked for.
        if error.errno != errno.EBUSY:
            raise network_failure(doing, error.errno or 0) from error
    finally:
        os.close(device)
    with rtnetlink(doing) as route:
        route.link("set", index=find_link(route, name), ifalias=alias(instance, sandbox_id), state="up")
    return name


def delete_tap(instance: str, sandbox_id: str) -> bool:
    """Delete the tap of a sandbox; return whether it had one."""
    return delete_link(tap_name(instance, sandbox_id))


def taps_of(instance: str) -> dict[str, str]:
    """Return the taps of `instance` as name → sandbox id, on a bridge or not."""
    found = {}
    with rtnetlink("list the interfaces") as route:
        for link in route.get_links():
            owner = sandbox_of(link.get("ifalias") or "", instance)
            if owner is not None:
                found[link.get("ifname")] = owner
    return found
