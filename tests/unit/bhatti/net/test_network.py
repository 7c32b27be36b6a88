"""Networking: IP allocation/release/reuse, TAP cleanup after destroy, Bridge setup (idempotent)."""

import threading
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from bhatti.errors import Conflict, CorruptData, LimitExceeded
from bhatti.net import bridge, firewall, netlink, quarantine, tap
from bhatti.net.instance import table_name
from bhatti.net.network import BridgeNetwork
from bhatti.net.networks import SUBNET_FILE, BridgeNetworks

pytestmark = pytest.mark.usefixtures("namespace")

INSTANCE = "0123abcd"


@pytest.fixture
def network(namespace: None, tmp_path: Path) -> BridgeNetwork:
    return BridgeNetworks(INSTANCE, tmp_path).of()


def interfaces() -> set[str]:
    with netlink.rtnetlink("look") as route:
        return {link.get("ifname") for link in route.get_links()}


def test_nothing_is_made_before_the_first_machine(network: BridgeNetwork) -> None:
    assert interfaces() == {"lo"}


def test_a_machine_gets_a_tap_on_the_bridge_and_an_address_and_keeps_them(network: BridgeNetwork) -> None:
    lease = network.attach("s1")
    assert bridge.ports_of(network.bridge) == [lease.tap]
    assert lease.address in network.pool.subnet
    assert lease.gateway == network.pool.subnet.network_address + 1
    assert firewall.table_exists(table_name(INSTANCE))
    assert network.attach("s1") == lease


def test_an_address_is_used_again_after_its_machine_went(network: BridgeNetwork) -> None:
    first = network.attach("s1")
    network.attach("s2")
    network.detach("s1")
    network.detach("s1")
    assert network.attach("s3").address == first.address


def test_a_later_daemon_finds_subnet_and_addresses_as_they_were(network: BridgeNetwork, tmp_path: Path) -> None:
    network.attach("s1")
    lease = network.attach("s2")
    later = BridgeNetworks(INSTANCE, tmp_path).of()
    assert later.pool.subnet == network.pool.subnet
    assert later.attach("s2", address=lease.address) == lease
    assert later.attach("s3").address == lease.address - 1


def test_a_missing_tap_and_a_missing_bridge_are_made_again(network: BridgeNetwork) -> None:
    lease = network.attach("s1")
    tap.delete_tap(INSTANCE, "s1")
    bridge.remove_bridge(network.bridge)
    assert network.attach("s1") == lease
    assert bridge.ports_of(network.bridge) == [lease.tap]


def test_an_attach_that_fails_leaves_no_tap_and_no_address(tmp_path: Path) -> None:
    taken = tap.create_tap("abcd0123", "s9")
    network = BridgeNetworks(INSTANCE, tmp_path, bridge_name=taken).of()
    with pytest.raises(Conflict):
        network.attach("s1")
    assert tap.taps_of(INSTANCE) == {}
    tap.delete_tap("abcd0123", "s9")
    assert network.attach("s1").address == network.pool.subnet.network_address + 2


def test_two_daemons_that_would_like_the_same_subnet_get_different_ones(network: BridgeNetwork, tmp_path: Path) -> None:
    other = BridgeNetworks(INSTANCE, tmp_path / "other", bridge_name="bhother").of()
    assert not network.pool.subnet.overlaps(other.pool.subnet)


def test_a_subnet_that_somebody_took_meanwhile_is_chosen_anew_when_nobody_depends_on_it(
    network: BridgeNetwork, tmp_path: Path
) -> None:
    subnet = network.pool.subnet
    network.down()
    bridge.ensure_bridge("bhother", IPv4Interface(f"{subnet.network_address + 9}/24"))
    assert not BridgeNetworks(INSTANCE, tmp_path).of().pool.subnet.overlaps(subnet)


def test_a_wanted_subnet_that_is_taken_is_a_conflict(tmp_path: Path) -> None:
    bridge.ensure_bridge("bhother", IPv4Interface("10.9.8.1/24"))
    wanted = BridgeNetworks(INSTANCE, tmp_path, subnet=IPv4Network("10.9.0.0/16"), bridge_name="bhmine").of()
    with pytest.raises(Conflict) as caught:
        wanted.attach("s1")
    assert caught.value.code == "subnet-taken"
    assert interfaces() == {"lo", "bhother"}


def test_a_spoilt_record_of_the_subnet_is_named(network: BridgeNetwork, tmp_path: Path) -> None:
    (tmp_path / SUBNET_FILE).write_text("nonsense\n")
    with pytest.raises(CorruptData, match=SUBNET_FILE):
        network.attach("s1")


def test_a_full_subnet_refuses_the_next_machine_and_leaves_no_tap(tmp_path: Path) -> None:
    small = BridgeNetworks(INSTANCE, tmp_path, subnet=IPv4Network("10.9.8.0/30")).of()
    assert small.attach("s1").address == IPv4Address("10.9.8.2")
    with pytest.raises(LimitExceeded):
        small.attach("s2")
    assert list(tap.taps_of(INSTANCE).values()) == ["s1"]


def test_ten_machines_at_once_get_ten_addresses(network: BridgeNetwork) -> None:
    together = threading.Barrier(10)

    def attach(number: int) -> IPv4Address:
        together.wait()
        return network.attach(f"s{number}").address

    with ThreadPoolExecutor(10) as threads:
        assert len(set(threads.map(attach, range(10)))) == 10
    assert len(bridge.ports_of(network.bridge)) == 10


def test_a_machine_in_quarantine_has_a_lease_and_joins_when_admitted(network: BridgeNetwork) -> None:
    lease = network.quarantine("s1", quarantine.GUEST)
    assert bridge.ports_of(network.bridge) == []
    assert lease.address in network.pool.subnet
    assert network.quarantine("s1", quarantine.GUEST) == lease
    network.admit("s1")
    assert bridge.ports_of(network.bridge) == [lease.tap]
    assert network.attach("s1") == lease
    network.detach("s1")
    assert network.pool.in_use() == []


def test_a_machine_that_stays_in_quarantine_takes_no_address(network: BridgeNetwork) -> None:
    lease = network.quarantine("s1", quarantine.GUEST, lease=False)
    assert (lease.address, lease.gateway) == (quarantine.GUEST, quarantine.HOST.ip)
    assert network.pool.in_use() == []
    network.detach("s1")
    assert interfaces() == {"lo", network.bridge}
    network.down()
    network.down()
    assert interfaces() == {"lo"}
    network.attach("s2")
    assert network.bridge in interfaces()
