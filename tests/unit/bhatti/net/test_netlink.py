import errno
from ipaddress import IPv4Interface, IPv4Network

import pytest

from bhatti.errors import EngineFailure
from bhatti.net import bridge, netlink


@pytest.mark.usefixtures("namespace")
def test_an_interface_is_found_and_deleted_once() -> None:
    bridge.ensure_bridge("bhtest", IPv4Interface("10.9.8.1/24"))
    with netlink.rtnetlink("look") as route:
        assert netlink.find_link(route, "bhtest") is not None
        assert netlink.find_link(route, "nothere") is None
    assert netlink.delete_link("bhtest")
    assert not netlink.delete_link("bhtest")


@pytest.mark.usefixtures("namespace")
def test_used_networks_are_those_of_addresses_and_routes_but_not_of_the_interface_left_out() -> None:
    bridge.ensure_bridge("bhtest", IPv4Interface("10.9.8.1/24"))
    with netlink.rtnetlink("add a route") as route:
        route.route("add", dst="10.77.0.0/16", gateway="10.9.8.2")
        route.route("add", dst="0.0.0.0/0", gateway="10.9.8.2")
    used = netlink.used_networks()
    assert IPv4Network("10.9.8.0/24") in used
    assert IPv4Network("10.77.0.0/16") in used
    assert IPv4Network("0.0.0.0/0") not in used
    assert netlink.used_networks(besides="bhtest") == []


@pytest.mark.usefixtures("namespace")
def test_the_kernels_refusal_is_an_engine_failure_that_says_what_was_tried() -> None:
    with (
        pytest.raises(EngineFailure, match=r"cannot make a bridge: E[A-Z]+") as caught,
        netlink.rtnetlink("make a bridge") as route,
    ):
        route.link("add", ifname="a name far too long for an interface", kind="bridge")
    assert caught.value.code == "network-failure"


def test_permission_errors_hint_at_root_and_at_the_way_without() -> None:
    failure = netlink.network_failure("make a tap", errno.EPERM)
    assert "EPERM" in failure.message
    assert failure.hint is not None
    assert "root" in failure.hint
    assert "user" in failure.hint


@pytest.mark.usefixtures("namespace")
def test_only_the_named_refusals_are_tolerated() -> None:
    with netlink.rtnetlink("delete twice") as route, netlink.tolerate(errno.ENODEV):
        route.link("del", index=4242)
    with pytest.raises(EngineFailure), netlink.rtnetlink("delete") as route, netlink.tolerate(errno.EEXIST):
        route.link("del", index=4242)
