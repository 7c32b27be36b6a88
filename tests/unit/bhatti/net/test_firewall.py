import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network

import pytest
from tests.unit.bhatti.net.conftest import CLONE_NEWNET, setns, unshare

from bhatti.errors import EngineFailure, MissingDependency
from bhatti.net import firewall
from bhatti.net.firewall import GuestNetwork

ONE = GuestNetwork("bhtest", IPv4Network("10.9.8.0/24"))
TWO = GuestNetwork("bhtest2", IPv4Network("10.9.7.0/24"))


def ruleset() -> str:
    return subprocess.run(["/usr/sbin/nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("namespace")
def test_replacing_the_table_twice_is_replacing_it_once() -> None:
    firewall.replace_table("bhatti_test", [ONE])
    first = ruleset()
    firewall.replace_table("bhatti_test", [ONE])
    assert ruleset() == first
    assert first.count("masquerade") == 1


@pytest.mark.usefixtures("namespace")
def test_a_replacement_leaves_nothing_of_the_earlier_networks() -> None:
    firewall.replace_table("bhatti_test", [ONE, TWO])
    firewall.replace_table("bhatti_test", [TWO])
    assert "10.9.8.0" not in ruleset()
    assert "10.9.7.0/24" in ruleset()


@pytest.mark.usefixtures("namespace")
def test_an_nft_that_hangs_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "NFT_TIMEOUT_S", 1e-6)
    with pytest.raises(EngineFailure, match="was not done with our table within") as caught:
        firewall.replace_table("bhatti_test", [ONE])
    assert caught.value.code == "network-failure"


@pytest.mark.usefixtures("namespace")
def test_other_tables_are_untouched() -> None:
    subprocess.run(["/usr/sbin/nft", "add", "table", "inet", "somebody"], check=True)
    firewall.replace_table("bhatti_test", [ONE])
    firewall.remove_table("bhatti_test")
    assert ruleset() == "table inet somebody {\n}\n"


@pytest.mark.usefixtures("namespace")
def test_a_table_exists_from_replace_to_remove_and_removing_again_is_harmless() -> None:
    assert not firewall.table_exists("bhatti_test")
    firewall.replace_table("bhatti_test", [ONE])
    assert firewall.table_exists("bhatti_test")
    assert not firewall.table_exists("bhatti")
    firewall.remove_table("bhatti_test")
    firewall.remove_table("bhatti_test")
    assert not firewall.table_exists("bhatti_test")


@pytest.mark.usefixtures("namespace")
def test_what_nft_refuses_is_reported_in_its_own_words() -> None:
    with pytest.raises(EngineFailure, match=r"nft refused our table: .*syntax error") as caught:
        firewall.replace_table("no such name!", [ONE])
    assert caught.value.code == "network-failure"


def test_bridges_of_one_table_cannot_reach_each_other() -> None:
    script = firewall.render("bhatti_test", [ONE, TWO])
    assert 'iifname "bhtest" oifname "bhtest2" drop' in script
    assert 'iifname "bhtest2" oifname "bhtest" drop' in script


def test_a_tap_in_quarantine_answers_the_host_and_reaches_nobody() -> None:
    script = firewall.render("bhatti_test", [ONE])
    for rule in (
        'iifname "bht*" ct state established,related accept',
        'iifname "bht*" drop',
        'oifname "bht*" drop',
    ):
        assert rule in script


@contextmanager
def neighbour(interface: str, host: str, address: str) -> Iterator[int]:
    """Make a network namespace that is joined to this one by `interface`, and yield it; it routes everything here."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    unshare(CLONE_NEWNET)
    other = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(home, CLONE_NEWNET)
        ip(f"link add {interface} type veth peer name eth0 netns /proc/{os.getpid()}/fd/{other}")
        ip(f"address add {host}/24 dev {interface}")
        ip(f"link set {interface} up")
        with inside(other):
            for command in ("link set lo up", f"address add {address}/24 dev eth0", "link set eth0 up"):
                ip(command)
            ip(f"route add default via {host}")
            wait_until_up("eth0")
        wait_until_up(interface)
        yield other
    finally:
        os.close(other)
        os.close(home)


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    setns(namespace, CLONE_NEWNET)
    try:
        yield
    finally:
        setns(home, CLONE_NEWNET)
        os.close(home)


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def wait_until_up(interface: str) -> None:
    """Wait until packets pass: the kernel opens an interface a moment after it is told to, and drops them before."""
    deadline = time.monotonic() + 60
    show = ["ip", "-oneline", "link", "show", interface]
    while " state UP " not in subprocess.run(show, check=True, capture_output=True, text=True).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("namespace")
def test_guests_ask_the_name_server_of_a_cloud_and_nothing_else_of_it() -> None:
    cloud = "169.254.169.254"
    guests = GuestNetwork("guests0", IPv4Network("10.9.8.0/24"))
    with (
        neighbour("guests0", "10.9.8.1", "10.9.8.2") as guest,
        neighbour("outside0", "10.7.7.1", "10.7.7.2") as outside,
        contextlib.ExitStack() as opened,
    ):
        firewall.enable_forwarding()
        firewall.replace_table("bhatti_test", [guests])
        ip(f"route add {cloud} via 10.7.7.2")
        with inside(outside):
            ip(f"address add {cloud}/32 dev lo")
            for port in (53, 80):
                opened.enter_context(socket.create_server((cloud, port)))
        with inside(guest):
            socket.create_connection((cloud, 53), timeout=60).close()
            with pytest.raises(TimeoutError):
                socket.create_connection((cloud, 80), timeout=0.5)


@pytest.mark.usefixtures("namespace")
def test_forwarding_is_on_afterwards() -> None:
    firewall.IP_FORWARD.write_text("0\n")
    firewall.enable_forwarding()
    firewall.enable_forwarding()
    assert firewall.IP_FORWARD.read_text() == "1\n"


def test_without_nft_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(MissingDependency) as caught:
        firewall.find_nft()
    assert caught.value.hint == "apt install nftables"
