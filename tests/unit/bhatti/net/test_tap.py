import fcntl
import os
import struct

import pytest

from bhatti.errors import EngineFailure
from bhatti.net import tap
from bhatti.net.instance import tap_name
from bhatti.net.netlink import rtnetlink

pytestmark = pytest.mark.usefixtures("namespace")


def state_of(name: str) -> str:
    with rtnetlink("look") as route:
        (link,) = route.get_links(ifname=name)
        return str(link.get("state"))


def test_a_tap_is_up_and_tells_whose_it_is() -> None:
    name = tap.create_tap("0123abcd", "s1")
    assert name == tap_name("0123abcd", "s1")
    assert state_of(name) == "up"
    assert tap.taps_of("0123abcd") == {name: "s1"}
    assert tap.taps_of("abcd0123") == {}


def test_a_tap_outlives_its_maker_and_making_it_again_keeps_it() -> None:
    assert tap.create_tap("0123abcd", "s1") == tap.create_tap("0123abcd", "s1")
    assert len(tap.taps_of("0123abcd")) == 1


def test_a_tap_that_a_machine_holds_is_kept() -> None:
    name = tap.create_tap("0123abcd", "s1")
    machine = os.open(tap.TUN_DEVICE, os.O_RDWR)
    try:
        fcntl.ioctl(machine, tap.TUNSETIFF, struct.pack("16sH22x", name.encode(), tap.IFF_TAP | tap.IFF_NO_PI))
        assert tap.create_tap("0123abcd", "s1") == name
    finally:
        os.close(machine)


def test_deleting_is_harmless_a_second_time() -> None:
    tap.create_tap("0123abcd", "s1")
    assert tap.delete_tap("0123abcd", "s1")
    assert not tap.delete_tap("0123abcd", "s1")
    assert tap.taps_of("0123abcd") == {}


def test_without_the_tun_device_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "TUN_DEVICE", "/dev/net/none")
    with pytest.raises(EngineFailure, match=r"/dev/net/none: ENOENT"):
        tap.create_tap("0123abcd", "s1")


def test_an_interface_of_that_name_that_is_no_tap_is_refused() -> None:
    with rtnetlink("take the name") as route:
        route.link("add", ifname=tap_name("0123abcd", "s1"), kind="bridge")
    with pytest.raises(EngineFailure, match="cannot make the tap") as caught:
        tap.create_tap("0123abcd", "s1")
    assert caught.value.code == "network-failure"
