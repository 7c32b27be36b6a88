import json
import stat
from pathlib import Path

import pytest
from tests.unit.lohar.isolated import run_isolated

from lohar.netconf import Address, apply_dns, apply_hosts, is_ipv4, netmask_of, parse_ip_argument, replace_file

ROOT = pytest.mark.root


def test_a_complete_ip_argument() -> None:
    words = "console=ttyS0 ip=10.0.0.2::10.0.0.1:255.255.0.0:box:eth0:off:1.1.1.1:8.8.8.8 quiet"
    assert parse_ip_argument(words) == Address(
        address="10.0.0.2",
        gateway="10.0.0.1",
        netmask="255.255.0.0",
        hostname="box",
        interface="eth0",
        dns=("1.1.1.1", "8.8.8.8"),
    )


def test_an_ip_argument_may_be_cut_short_anywhere() -> None:
    assert parse_ip_argument("ip=10.0.0.2") == Address(address="10.0.0.2")
    assert parse_ip_argument("ip=10.0.0.2::10.0.0.1") == Address(address="10.0.0.2", gateway="10.0.0.1")
    assert parse_ip_argument("ip=10.0.0.2:::::eth1:") == Address(address="10.0.0.2", interface="eth1")


@pytest.mark.parametrize(
    "words", ["", "quiet", "ip=", "ip=dhcp", "ip=off", "ip=:::::eth0:dhcp", "ip=10.0.0", "zip=1.2.3.4"]
)
def test_without_an_address_the_network_is_left_alone(words: str) -> None:
    assert parse_ip_argument(words) is None


def test_what_is_no_address_in_an_ip_argument_is_dropped() -> None:
    assert parse_ip_argument("ip=10.0.0.2::gate:mask::eth0:off:0.0.0.0:x") == Address(address="10.0.0.2")


def test_the_last_ip_argument_counts() -> None:
    found = parse_ip_argument("ip=10.0.0.2 ip=10.0.0.3")
    assert found is not None
    assert found.address == "10.0.0.3"


def test_netmasks_of_prefix_lengths() -> None:
    assert [netmask_of(n) for n in (0, 8, 24, 31, 32)] == [
        "0.0.0.0",
        "255.0.0.0",
        "255.255.255.0",
        "255.255.255.254",
        "255.255.255.255",
    ]


def test_only_dotted_quads_are_ipv4_addresses() -> None:
    assert is_ipv4("192.168.1.1")
    assert not any(map(is_ipv4, ("", "1.2.3", "1.2.3.4.5", "256.1.1.1", "::1", "1.2.3.4 ")))


@ROOT
def test_an_interface_gets_address_route_and_mac_and_a_second_identity_replaces_the_first() -> None:
    printed = run_isolated(
        """
        import json, subprocess
        from lohar import netconf
        def ip(*words):
            return json.loads(subprocess.run(["ip", "-json", *words], capture_output=True, check=True).stdout or "[]")
        subprocess.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "peer"], check=True)
        netconf.bring_up_loopback()
        netconf.apply_address("10.1.0.5", "255.255.0.0", "10.1.0.1")
        netconf.apply_address("10.2.0.9", "24", "10.2.0.1", mac="02:00:00:00:00:09")
        for _ in range(2):
            netconf.apply_address("10.2.0.9", "24", "10.2.0.1", mac="02:00:00:00:00:09")
        link, = ip("addr", "show", "eth0")
        print(json.dumps([
            [(a["local"], a["prefixlen"]) for a in link["addr_info"] if a["family"] == "inet"],
            link["address"],
            "UP" in link["flags"],
            [r["gateway"] for r in ip("route") if r["dst"] == "default"],
            ip("addr", "show", "lo")[0]["addr_info"][0]["local"],
        ]))
        netconf.apply_address("10.2.0.9", "24")
        print(json.dumps([r for r in ip("route") if r["dst"] == "default"]))
        """,
        "--net",
    )
    first, second = map(json.loads, printed.splitlines())
    assert first == [[["10.2.0.9", 24]], "02:00:00:00:00:09", True, ["10.2.0.1"], "127.0.0.1"]
    assert second == []


@ROOT
def test_a_missing_interface_is_an_error() -> None:
    printed = run_isolated(
        """
        from lohar import netconf
        try:
            netconf.apply_address("10.1.0.5", "24")
        except OSError as error:
            print(error.strerror)
        """,
        "--net",
    )
    assert printed.strip() == "No such device"


def test_name_servers_replace_a_dangling_link_by_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc/resolv.conf"
    path.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    apply_dns(("1.1.1.1", "8.8.8.8"), root=str(tmp_path))
    assert not path.is_symlink()
    assert path.read_text() == "nameserver 1.1.1.1\nnameserver 8.8.8.8\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_without_name_servers_those_of_the_image_stay(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text("nameserver 9.9.9.9\n")
    apply_dns((), root=str(tmp_path))
    assert (tmp_path / "etc/resolv.conf").read_text() == "nameserver 9.9.9.9\n"


def test_hosts_know_the_machine_and_keep_other_lines(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc/hosts"
    path.write_text("127.0.0.1 localhost\n127.0.1.1 old\n10.0.0.7 db # mine")
    apply_hosts("box", root=str(tmp_path))
    apply_hosts("box", root=str(tmp_path))
    assert path.read_text() == "127.0.0.1 localhost\n127.0.1.1 box\n10.0.0.7 db # mine\n"


def test_hosts_are_made_where_there_are_none(tmp_path: Path) -> None:
    apply_hosts("box", root=str(tmp_path))
    assert (tmp_path / "etc/hosts").read_text().splitlines() == [
        "127.0.0.1 localhost",
        "127.0.1.1 box",
        "::1 localhost ip6-localhost ip6-loopback",
    ]


def test_a_failed_replacement_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts/inside").touch()
    with pytest.raises(OSError, match="hosts"):
        replace_file(str(tmp_path / "hosts"), "text")
    assert [path.name for path in tmp_path.iterdir()] == ["hosts"]


@pytest.mark.parametrize(
    ("old", "new"), [("same\n", "same\n"), ("a long text\n", "short\n"), ("short\n", "a long text\n")]
)
def test_a_plain_file_is_written_over_where_it_is(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "file"
    replace_file(str(path), old)
    before = path.stat().st_ino
    replace_file(str(path), new)
    assert (path.read_text(), path.stat().st_ino) == (new, before)


@pytest.mark.parametrize("odd", ["link", "second name", "private"])
def test_what_is_no_plain_file_of_its_own_is_replaced(tmp_path: Path, odd: str) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    other.write_text("theirs")
    if odd == "link":
        path.symlink_to(other)
    elif odd == "second name":
        path.hardlink_to(other)
    else:
        path.write_text("theirs")
        path.chmod(0o600)
    replace_file(str(path), "ours")
    assert (path.read_text(), other.read_text()) == ("ours", "theirs")
    assert (path.is_symlink(), path.stat().st_mode & 0o777) == (False, 0o644)
