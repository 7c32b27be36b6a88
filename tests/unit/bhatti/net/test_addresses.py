"""Networking: IP allocation/release/reuse."""

from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.errors import Conflict, LimitExceeded
from bhatti.net.addresses import AddressPool, hardware_address

SUBNET = IPv4Network("10.9.8.0/24")


def test_the_lowest_free_address_comes_first_and_comes_again_after_release() -> None:
    pool = AddressPool(SUBNET)
    first, second = pool.allocate(), pool.allocate()
    assert [str(first), str(second)] == ["10.9.8.2", "10.9.8.3"]
    pool.release(first)
    assert pool.allocate() == first


def test_a_full_pool_refuses_and_serves_again_after_a_release() -> None:
    pool = AddressPool(SUBNET)
    given_out = [pool.allocate() for _ in range(253)]
    with pytest.raises(LimitExceeded, match="all 253 addresses") as caught:
        pool.allocate()
    assert caught.value.code == "addresses-exhausted"
    pool.release(given_out[100])
    assert pool.allocate() == given_out[100]


def test_every_address_is_a_guests_one() -> None:
    pool = AddressPool(SUBNET)
    octets = [pool.allocate().packed[3] for _ in range(253)]
    assert octets == list(range(2, 255))


def test_a_marked_address_is_skipped() -> None:
    pool = AddressPool(SUBNET)
    pool.mark(IPv4Address("10.9.8.3"))
    assert [str(pool.allocate()) for _ in range(2)] == ["10.9.8.2", "10.9.8.4"]


@pytest.mark.parametrize("outside", ["10.9.8.0", "10.9.8.1", "10.9.8.255", "10.9.7.9", "10.9.9.2"])
def test_an_address_that_is_no_guests_cannot_be_marked(outside: str) -> None:
    pool = AddressPool(SUBNET)
    with pytest.raises(Conflict) as caught:
        pool.mark(IPv4Address(outside))
    assert caught.value.code == "address-outside"
    pool.release(IPv4Address(outside))
    assert pool.in_use() == []


def test_an_address_belongs_to_one_guest() -> None:
    pool = AddressPool(SUBNET)
    taken = pool.allocate()
    with pytest.raises(Conflict) as caught:
        pool.mark(taken)
    assert caught.value.code == "address-taken"


def test_a_second_release_is_harmless() -> None:
    pool = AddressPool(SUBNET)
    first, second = pool.allocate(), pool.allocate()
    pool.release(first)
    pool.release(first)
    assert pool.in_use() == [second]


def test_threads_that_allocate_at_once_get_different_addresses() -> None:
    pool = AddressPool(SUBNET)
    with ThreadPoolExecutor(10) as threads:
        got = list(threads.map(lambda _: pool.allocate(), range(50)))
    assert len(set(got)) == 50
    assert pool.in_use() == sorted(got)


def test_a_subnet_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        AddressPool(IPv4Network("10.9.8.0/31"))


@given(st.integers(min_value=8, max_value=30))
def test_the_gateway_is_never_given_to_a_guest(length: int) -> None:
    pool = AddressPool(IPv4Network(f"10.0.0.0/{length}"))
    assert pool.allocate() == pool.gateway.ip + 1
    assert pool.size == 2 ** (32 - length) - 3


def test_macs_differ_with_the_address_and_are_locally_administered() -> None:
    first = hardware_address(IPv4Address("10.9.8.2"))
    assert first == "06:b4:0a:09:08:02"
    assert first != hardware_address(IPv4Address("10.9.8.3"))
    assert int(first[:2], 16) & 0b11 == 0b10
