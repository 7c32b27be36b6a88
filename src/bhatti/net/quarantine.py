"""A tap on its own: plugged into nothing, so that machines with equal addresses do not meet.

A forked guest wakes up with the address of the one it comes from. Until it has been told who it is, its tap is on no
bridge; the host reaches it by sockets bound to the tap, from its gateway's address, so that it needs no route to
answer. For guests that were never on a bridge, every quarantined tap has one. The guest's side is the same in each: the
host has the hardware address of the bridge here too, so that what a guest knows about its gateway stays true.
"""

import errno
import socket
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from bhatti.net.bridge import set_neighbour
from bhatti.net.netlink import find_link, rtnetlink, tolerate

HOST = IPv4Interface("169.254.77.1/30")
"""The host on a tap in quarantine. Link-local addresses (RFC 3927) belong to the link, so every tap may have it."""

GUEST = IPv4Address("169.254.77.2")
"""The address of a guest that has not been told yet who it is."""

LOOSE = "2"
"""rp_filter: a packet's source need not be routed to where it came from, only somewhere (ip-sysctl.rst)."""

CONF = Path("/proc/sys/net/ipv4/conf")


def enter(tap: str, host_mac: str, guests: dict[IPv4Address, str]) -> None:
    """Take a tap off any bridge and give the host an address there. Idempotent.

    `guests` are the addresses that the guest has or will be given, with their MACs: the host does not ask for them.
    """
    with rtnetlink(f"put the tap {tap} into quarantine") as route:
        index = find_link(route, tap)
        route.link("set", index=index, master=0, address=host_mac)
        with tolerate(errno.EEXIST):
            route.addr("add", index=index, address=str(HOST.ip), prefixlen=HOST.network.prefixlen)
    (CONF / tap / "rp_filter").write_text(LOOSE)
    for address, mac in guests.items():
        set_neighbour(tap, address, mac)


def leave(tap: str) -> None:
    """Take the host's address from a tap, and with it all that `enter` knows. Idempotent."""
    with rtnetlink(f"end the quarantine of the tap {tap}") as route:
        index = find_link(route, tap)
        route.flush_addr(index=index, family=socket.AF_INET)
        for entry in list(route.get_neighbours(family=socket.AF_INET, ifindex=index)):
            with tolerate(errno.ENOENT):
                route.neigh("del", dst=entry.get("dst"), ifindex=index)
