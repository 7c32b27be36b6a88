from collections.abc import Iterator

import pytest
from tests.daemons import Daemon, daemon


@pytest.fixture(scope="session")
def served() -> Iterator[Daemon]:
    """A daemon in a process of its own, with one sandbox, called `one`."""
    with daemon(BHATTI_GATEWAY_LISTEN="127.0.0.1:0") as found:
        found.out("create", "one")
        yield found
