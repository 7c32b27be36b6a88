from collections.abc import Iterator

import pytest
from tests.unit.lohar.serving import Client, Serving


@pytest.fixture
def serving() -> Iterator[Serving]:
    """An agent in this process, without token."""
    made = Serving()
    yield made
    made.close()


@pytest.fixture
def client(serving: Serving) -> Client:
    """A client that has said HELLO."""
    made = serving.connect()
    made.hello()
    return made
