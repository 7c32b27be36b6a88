"""Bridges of several owners in one instance; the guests are network namespaces, plugged in where a tap would be."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
from tests.unit.bhatti.net.conftest import CLONE_NEWNET, setns
from tests.unit.bhatti.net.test_network import INSTANCE, interfaces

from bhatti.errors import CorruptData
from bhatti.net import bridge, firewall, instance, netlink, tap
from bhatti.net.network import BridgeNetwork
from bhatti.net.networks import SUBNETS_DIRECTORY, BridgeNetworks

pytestmark = pytest.mark.usefixtures("namespace")

ANNA, BERT = "usr_0a", "usr_0b"


@pytest.fixture
def networks(namespace: None, tmp_path: Path) -> BridgeNetworks:
    found = BridgeNetworks(INSTANCE, tmp_path)
    assert found.sweep(set()) == []
    return found


def ruleset() -> str:
    return subprocess.run(["/usr/sbin/nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


class Guest:
    """A network namespace with one cable into a bridge."""

    def __init__(self, network: BridgeNetwork, name: str, stack: ExitStack) -> None:
        holder = stack.enter_context(subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE))
        enter = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        lease = network.attach(name)
        self.address = lease.address
        subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0"], check=True)
        while Path(f"/proc/{holder.pid}/ns/net").readlink() == Path("/proc/thread-self/ns/net").readlink():
            assert holder.poll() is None
        subprocess.run(["ip", "link", "set", "eth0", "netns", str(holder.pid)], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        bridge.add_port(network.bridge, name)
        interface = IPv4Interface((lease.address, lease.prefix_length))
        for words in (
            ["link", "set", "eth0", "address", lease.mac, "up"],
            ["address", "add", str(interface), "dev", "eth0"],
            ["route", "add", "default", "via", str(lease.gateway)],
        ):
            subprocess.run([*enter, "ip", *words], check=True)
        self._namespace = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, self._namespace)

    def reaches(self, address: IPv4Address, *, within_s: float = 10.0) -> bool:
        """Return whether somebody answers there, if only that the port is closed."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(self._namespace, CLONE_NEWNET)
            with socket.socket() as sock:  # it stays in the namespace that it was made in
                sock.settimeout(within_s)
                sock.connect((str(address), 7))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        finally:
            setns(home, CLONE_NEWNET)
            os.close(home)
        return False  # nobody listens there


@pytest.fixture
def plug() -> Iterator[Callable[[BridgeNetwork, str], Guest]]:
    with ExitStack() as stack:
        yield lambda network, name: Guest(network, name, stack)


def test_guests_of_one_owner_meet_and_those_of_different_owners_do_not(
    networks: BridgeNetworks, plug: Callable[[BridgeNetwork, str], Guest]
) -> None:
    one, two = plug(networks.of(ANNA), "a1"), plug(networks.of(ANNA), "a2")
    other = plug(networks.of(BERT), "b1")
    mine = plug(networks.of(), "m1")
    assert one.reaches(two.address)
    assert one.reaches(networks.of(ANNA).pool.gateway.ip)
    assert other.reaches(networks.of(BERT).pool.gateway.ip)
    for who, whom in (
        (one, other.address),
        (other, one.address),
        (one, networks.of(BERT).pool.gateway.ip),
        (mine, one.address),
        (one, mine.address),
    ):
        assert not who.reaches(whom, within_s=0.5)


def test_a_bridge_comes_with_its_owners_first_machine_and_goes_with_the_last(networks: BridgeNetworks) -> None:
    anna, bert = networks.of(ANNA), networks.of(BERT)
    assert interfaces() == {"lo"}
    anna.attach("a1")
    anna.attach("a2")
    bert.attach("b1")
    assert len({network.pool.subnet for network in (anna, bert, networks.of())}) == 3
    subnet = str(anna.pool.subnet)
    anna.detach("a1")
    assert anna.bridge in interfaces()
    anna.detach("a2")
    assert anna.bridge not in interfaces()
    assert subnet not in ruleset()
    assert bert.bridge in ruleset()
    networks.of().attach("m1")
    networks.of().detach("m1")
    assert networks.of().bridge in interfaces()
    anna.attach("a3")
    assert anna.bridge in interfaces()


def test_the_last_machine_takes_bridges_and_table_along(networks: BridgeNetworks) -> None:
    networks.of().attach("s1")
    networks.of(ANNA).attach("s2")
    networks.of().detach("s1")
    networks.close()
    assert networks.of(ANNA).bridge in interfaces()
    networks.of(ANNA).detach("s2")
    networks.close()
    networks.close()
    assert interfaces() == {"lo"}
    assert not firewall.table_exists(networks.table)
    networks.of().attach("s3")
    assert networks.of().bridge in interfaces()


def test_before_the_sweep_nothing_goes_that_others_may_need(networks: BridgeNetworks, tmp_path: Path) -> None:
    lease = networks.of(ANNA).attach("a1")
    networks.of(ANNA).attach("a2")
    later = BridgeNetworks(INSTANCE, tmp_path)
    later.of(ANNA).detach("a2")
    later.of(BERT).attach("b1")
    assert networks.of(ANNA).bridge in ruleset()
    assert later.of(ANNA).attach("a1", address=lease.address) == lease


def test_the_sweep_takes_only_what_nobody_knows(networks: BridgeNetworks, tmp_path: Path) -> None:
    networks.of().attach("s1")
    networks.of().attach("s2")
    networks.of(ANNA).attach("a1")
    networks.of(BERT).attach("b1")
    tap.create_tap("abcd0123", "s3")
    bridge.ensure_bridge("bhbold", IPv4Interface("10.9.8.1/24"), alias=instance.bridge_alias(INSTANCE))
    bridge.ensure_bridge("bhbother", IPv4Interface("10.9.7.1/24"), alias=instance.bridge_alias("abcd0123"))
    later = BridgeNetworks(INSTANCE, tmp_path)
    for network, name in ((later.of(), "s1"), (later.of(BERT), "b1")):
        network.attach(name)
    assert later.sweep({"s1", "b1"}) == ["a1", "s2"]
    assert sorted(tap.taps_of(INSTANCE).values()) == ["b1", "s1"]
    assert list(tap.taps_of("abcd0123").values()) == ["s3"]
    there = interfaces()
    assert {later.of().bridge, later.of(BERT).bridge, "bhbother"} <= there
    assert not {later.of(ANNA).bridge, "bhbold"} & there
    assert [path.name for path in (tmp_path / SUBNETS_DIRECTORY).iterdir()] == [BERT]


def test_sleeping_machines_keep_their_owners_subnet_over_a_restart_of_the_host(
    networks: BridgeNetworks, tmp_path: Path
) -> None:
    lease = networks.of(ANNA).attach("a1")
    tap.delete_tap(INSTANCE, "a1")
    bridge.remove_bridge(networks.of(ANNA).bridge)
    firewall.remove_table(networks.table)
    later = BridgeNetworks(INSTANCE, tmp_path)
    assert later.of(BERT).attach("b1").address not in networks.of(ANNA).pool.subnet
    assert later.of(ANNA).attach("a1", address=lease.address) == lease


def test_an_owners_spoilt_record_is_told_to_them_and_harms_nobody_else(
    networks: BridgeNetworks, tmp_path: Path
) -> None:
    networks.of(ANNA).attach("a1")
    (tmp_path / SUBNETS_DIRECTORY / ANNA).write_text("nonsense\n")
    later = BridgeNetworks(INSTANCE, tmp_path)
    with pytest.raises(CorruptData, match=ANNA):
        later.of(ANNA).attach("a1")
    later.of(BERT).attach("b1")
    assert later.of(BERT).bridge in ruleset()


def test_the_host_has_one_hardware_address_on_all_bridges(networks: BridgeNetworks) -> None:
    """A guest that wakes up on another bridge than its mold's knows the host still."""
    networks.of().attach("s1")
    networks.of(ANNA).attach("a1")
    with netlink.rtnetlink("look") as route:
        names = {network.bridge for network in (networks.of(), networks.of(ANNA))}
        macs = [link.get("address") for link in route.get_links() if link.get("ifname") in names]
    assert len(macs) == 2
    assert len(set(macs)) == 1
