from collections.abc import Iterator

import pytest
from tests.daemons import Daemon, daemon


@pytest.fixture
def served() -> Iterator[Daemon]:
    """A daemon to be killed."""
    with daemon() as found:
        yield found
