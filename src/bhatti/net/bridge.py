"""Bridges: the switch that the machines of one instance are plugged into, with the host as their gateway."""

import errno
import hashlib
from ipaddress import IPv4Address, IPv4Interface

from bhatti.errors import Conflict
from bhatti.net.netlink import delete_link, find_link, rtnetlink, tolerate

NUD_PERMANENT = 0x80
"""A neighbour entry that never expires: linux/neighbour.h."""


def ensure_bridge(name: str, gateway: IPv4Interface, *, mac: str = "", alias: str = "") -> None:
    """Make sure that the bridge exists, is up and carries exactly the gateway's address. Idempotent.

    Its hardware address is `mac`, or one that derives from its name. Raises `Conflict` (code `interface-taken`) if
    `name` is something else than a bridge.
    """
    with rtnetlink(f"set the bridge {name} up") as route:
        index = find_link(route, name)
        if index is None:
            with tolerate(errno.EEXIST):
                route.link("add", ifname=name, kind="bridge", br_stp_state=0, br_forward_delay=0)
            index = find_link(route, name)
        link = route.get_links(index)[0]
        info = link.get("linkinfo")
        if info is None or info.get("kind") != "bridge":
            raise Conflict(
                f"the interface {name} exists and is no bridge",
                hint="choose another bridge name in the settings",
                code="interface-taken",
            )
        # A bridge without an address of its own takes the lowest of its ports', and changes it when ports come and go:
        # guests would then talk to a gateway that moved.
        route.link("set", index=index, address=mac or hardware_address(name), ifalias=alias, state="up")
        present = {
            IPv4Interface(f"{entry.get('address')}/{entry['prefixlen']}")
            for entry in route.get_addr(family=2, index=index)
        }
        for stale in present - {gateway}:
            route.addr("del", index=index, address=str(stale.ip), prefixlen=stale.network.prefixlen)
        if gateway not in present:
            route.addr("add", index=index, address=str(gateway.ip), prefixlen=gateway.network.prefixlen)


def hardware_address(name: str) -> str:
    """Return a locally administered MAC that is always the same for an interface name."""
    digest = hashlib.sha256(name.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def add_port(bridge: str, port: str) -> None:
    """Plug an interface into a bridge. Idempotent."""
    with rtnetlink(f"plug {port} into {bridge}") as route:
        route.link("set", index=find_link(route, port), master=find_link(route, bridge))


def ports_of(bridge: str) -> list[str]:
    """Return the names of what is plugged into a bridge; empty also when there is no such bridge."""
    with rtnetlink(f"list the ports of {bridge}") as route:
        index = find_link(route, bridge)
        if index is None:
            return []
        return [link.get("ifname") for link in route.get_links() if link.get("master") == index]


def bridge_exists(name: str) -> bool:
    """Return whether there is an interface of that name."""
    with rtnetlink(f"look for the bridge {name}") as route:
        return find_link(route, name) is not None


def bridges_called(alias: str) -> list[str]:
    """Return the names of the bridges with that alias."""
    with rtnetlink("list the interfaces") as route:
        return [link.get("ifname") for link in route.get_links() if link.get("ifalias") == alias]


def remove_bridge(name: str) -> bool:
    """Delete a bridge; its ports are unplugged, not deleted. Return whether there was one."""
    return delete_link(name)


def set_neighbour(interface: str, address: IPv4Address, mac: str) -> None:
    """Tell the host which MAC has an address, for good.

    Without this the first packet to a guest that is still booting waits for address resolution to be tried again,
    a second later; and a used address that comes back with another MAC would be sent to the old one.
    """
    with rtnetlink(f"set the neighbour {address}") as route:
        route.neigh("replace", dst=str(address), lladdr=mac, ifindex=find_link(route, interface), state=NUD_PERMANENT)


def delete_neighbour(interface: str, address: IPv4Address) -> None:
    """Forget an address set by `set_neighbour`. Nothing happens if it is not known."""
    with rtnetlink(f"delete the neighbour {address}") as route:
        index = find_link(route, interface)
        if index is not None:
            with tolerate(errno.ENOENT, errno.ENODEV):
                route.neigh("del", dst=str(address), ifindex=index)
