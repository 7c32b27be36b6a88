import fcntl
import os
import socket
import struct
from ipaddress import IPv4Address

import pytest

from bhatti.net import bridge, netlink, quarantine, tap
from bhatti.net.addresses import hardware_address

pytestmark = pytest.mark.usefixtures("namespace")

INSTANCE = "0123abcd"
HOST_MAC = "02:00:00:00:00:01"
LATER = IPv4Address("10.9.8.7")
GUESTS = {address: hardware_address(address) for address in (quarantine.GUEST, LATER)}


def state_of(name: str) -> dict[str, object]:
    with netlink.rtnetlink("look") as route:
        index = netlink.find_link(route, name)
        link = route.get_links(index)[0]
        return {
            "mac": link.get("address"),
            "bridge": link.get("master"),
            "addresses": [entry.get("address") for entry in route.get_addr(family=2, index=index)],
            "neighbours": {entry.get("dst"): entry.get("lladdr") for entry in route.get_neighbours(2, ifindex=index)},
        }


def open_tap(name: str) -> int:
    """Take the guest's end of a tap, as QEMU does."""
    device = os.open(tap.TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(device, tap.TUNSETIFF, struct.pack("16sH22x", name.encode(), tap.IFF_TAP | tap.IFF_NO_PI))
    return device


def test_a_tap_in_quarantine_is_on_no_bridge_and_knows_its_guest() -> None:
    bridge.ensure_bridge("bhtest", quarantine.HOST)
    name = tap.create_tap(INSTANCE, "s1")
    bridge.add_port("bhtest", name)
    for _ in range(2):
        quarantine.enter(name, HOST_MAC, GUESTS)
        seen = state_of(name)
        assert seen["mac"] == HOST_MAC
        assert not seen["bridge"]
        assert seen["addresses"] == [str(quarantine.HOST.ip)]
        assert seen["neighbours"] == {str(address): mac for address, mac in GUESTS.items()}
        assert (quarantine.CONF / name / "rp_filter").read_text().strip() == quarantine.LOOSE


def test_nothing_of_it_is_left_afterwards() -> None:
    name = tap.create_tap(INSTANCE, "s1")
    quarantine.enter(name, HOST_MAC, GUESTS)
    for _ in range(2):
        quarantine.leave(name)
        seen = state_of(name)
        assert (seen["addresses"], seen["neighbours"]) == ([], {})


@pytest.mark.parametrize("address", GUESTS)
def test_guests_with_the_same_address_are_reached_each_through_its_own_tap(address: IPv4Address) -> None:
    devices = {}
    for sandbox in ("s1", "s2"):
        name = tap.create_tap(INSTANCE, sandbox)
        devices[name] = open_tap(name)
        quarantine.enter(name, HOST_MAC, GUESTS)
    try:
        for name, device in devices.items():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
                sock.sendto(name.encode(), (str(address), 1024))
            frame = b""
            while name.encode() not in frame:  # what the kernel says by itself comes first
                frame = os.read(device, 2000)
            assert frame[:6].hex(":") == GUESTS[address]
            assert frame[26:30] == quarantine.HOST.ip.packed
            assert frame[30:34] == address.packed
    finally:
        for device in devices.values():
            os.close(device)
