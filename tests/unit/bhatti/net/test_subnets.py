from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.errors import LimitExceeded
from bhatti.net.subnets import RANGE, choose_subnet


@given(st.text(max_size=12), st.sets(st.integers(0, 255), max_size=40))
def test_the_choice_is_inside_the_range_and_overlaps_nothing(instance: str, taken: set[int]) -> None:
    used = [IPv4Network(f"10.83.{octet}.0/24") for octet in taken]
    subnet = choose_subnet(instance, used)
    assert subnet.subnet_of(RANGE)
    assert not any(subnet.overlaps(other) for other in used)


def test_an_instance_chooses_the_same_again_while_it_is_free() -> None:
    assert choose_subnet("0123abcd", []) == choose_subnet("0123abcd", [])


def test_a_large_route_over_a_part_of_the_range_is_respected() -> None:
    assert choose_subnet("0123abcd", [IPv4Network("10.83.0.0/17")]).subnet_of(IPv4Network("10.83.128.0/17"))


def test_a_full_range_is_a_limit_with_a_way_out() -> None:
    with pytest.raises(LimitExceeded) as caught:
        choose_subnet("0123abcd", [IPv4Network("10.0.0.0/8")])
    assert caught.value.code == "subnets-exhausted"
    assert caught.value.hint is not None
    assert "subnet" in caught.value.hint
