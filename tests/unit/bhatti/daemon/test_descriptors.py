import resource
from collections.abc import Iterator

import pytest

from bhatti.daemon.descriptors import MOST, allow_as_many_as_possible


@pytest.fixture
def hard() -> Iterator[int]:
    """The most that this process may have; what it has is put back afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_small_bound_is_raised_to_what_is_allowed(hard: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    found = allow_as_many_as_possible()
    assert 512 < found <= MOST
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (found, hard)


def test_a_large_bound_is_left_alone(hard: int) -> None:
    allow_as_many_as_possible()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert allow_as_many_as_possible() == before[0]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
