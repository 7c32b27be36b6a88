"""Networking: Bridge setup (idempotent)."""

from ipaddress import IPv4Address, IPv4Interface

import pytest

from bhatti.errors import Conflict
from bhatti.net import bridge, tap
from bhatti.net.netlink import find_link, rtnetlink

pytestmark = pytest.mark.usefixtures("namespace")

GATEWAY = IPv4Interface("10.9.8.1/24")


def addresses_of(name: str) -> list[str]:
    with rtnetlink("look") as route:
        return [entry.get("address") for entry in route.get_addr(family=2, index=find_link(route, name))]


def mac_of(name: str) -> str:
    with rtnetlink("look") as route:
        return str(route.get_links(ifname=name)[0].get("address"))


def test_setting_a_bridge_up_twice_leaves_one_with_one_address() -> None:
    bridge.ensure_bridge("bhtest", GATEWAY)
    bridge.ensure_bridge("bhtest", GATEWAY)
    assert addresses_of("bhtest") == ["10.9.8.1"]


def test_an_earlier_address_makes_way_for_the_one_wanted() -> None:
    bridge.ensure_bridge("bhtest", IPv4Interface("10.9.7.1/24"))
    bridge.ensure_bridge("bhtest", GATEWAY)
    assert addresses_of("bhtest") == ["10.9.8.1"]


def test_the_bridge_keeps_its_mac_when_ports_come_and_go() -> None:
    bridge.ensure_bridge("bhtest", GATEWAY)
    before = mac_of("bhtest")
    bridge.add_port("bhtest", tap.create_tap("0123abcd", "s1"))
    assert mac_of("bhtest") == before == bridge.hardware_address("bhtest")
    tap.delete_tap("0123abcd", "s1")
    assert mac_of("bhtest") == before


def test_something_else_with_that_name_is_a_conflict() -> None:
    taken = tap.create_tap("0123abcd", "s1")
    with pytest.raises(Conflict, match="no bridge") as caught:
        bridge.ensure_bridge(taken, GATEWAY)
    assert caught.value.code == "interface-taken"


def test_ports_are_listed_and_plugging_twice_is_plugging_once() -> None:
    bridge.ensure_bridge("bhtest", GATEWAY)
    name = tap.create_tap("0123abcd", "s1")
    assert bridge.ports_of("bhtest") == []
    bridge.add_port("bhtest", name)
    bridge.add_port("bhtest", name)
    assert bridge.ports_of("bhtest") == [name]
    assert bridge.ports_of("nothere") == []


def test_removing_a_bridge_keeps_its_ports() -> None:
    bridge.ensure_bridge("bhtest", GATEWAY)
    name = tap.create_tap("0123abcd", "s1")
    bridge.add_port("bhtest", name)
    assert bridge.remove_bridge("bhtest")
    assert not bridge.remove_bridge("bhtest")
    assert name in tap.taps_of("0123abcd")


def neighbours(name: str) -> dict[str, str]:
    with rtnetlink("look") as route:
        entries = route.get_neighbours(family=2, ifindex=find_link(route, name))
        # The kernel adds multicast neighbours of its own accord.
        ours = [entry for entry in entries if entry["state"] == bridge.NUD_PERMANENT]
        return {entry.get("dst"): entry.get("lladdr") for entry in ours}


def test_a_neighbour_is_set_replaced_and_forgotten() -> None:
    bridge.ensure_bridge("bhtest", GATEWAY)
    guest = IPv4Address("10.9.8.2")
    bridge.set_neighbour("bhtest", guest, "06:00:00:00:00:01")
    bridge.set_neighbour("bhtest", guest, "06:00:00:00:00:02")
    assert neighbours("bhtest") == {"10.9.8.2": "06:00:00:00:00:02"}
    bridge.delete_neighbour("bhtest", guest)
    bridge.delete_neighbour("bhtest", guest)
    bridge.delete_neighbour("nothere", guest)
    assert neighbours("bhtest") == {}
