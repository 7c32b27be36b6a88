import os
import socket
from collections.abc import Iterator

import pytest

from lohar.poller import GONE, READ, WRITE, SelectorPoller, open_poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.poller import Poller


@pytest.fixture(params=[open_poller, SelectorPoller])
def poller(request: pytest.FixtureRequest) -> Iterator["Poller"]:
    made: Poller = request.param()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_nothing_ready_is_nothing_reported(poller: "Poller", pair: tuple[socket.socket, socket.socket]) -> None:
    poller.register(pair[0].fileno(), READ)
    assert poller.poll(0) == []


def test_readable_and_writable_are_told_apart(poller: "Poller", pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    poller.register(near.fileno(), READ | WRITE)
    assert poller.poll(0) == [(near.fileno(), WRITE)]
    far.send(b"x")
    assert poller.poll(1) == [(near.fileno(), READ | WRITE)]


def test_interest_can_change_and_end(poller: "Poller", pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.send(b"x")
    poller.register(near.fileno(), 0)
    assert poller.poll(0) == []
    poller.modify(near.fileno(), READ)
    assert poller.poll(1) == [(near.fileno(), READ)]
    poller.modify(near.fileno(), 0)
    assert poller.poll(0) == []
    poller.modify(near.fileno(), WRITE)
    assert poller.poll(1) == [(near.fileno(), WRITE)]
    poller.unregister(near.fileno())
    assert poller.poll(0) == []


def test_on_linux_a_hang_up_is_reported_without_any_interest(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    poller = open_poller()
    if isinstance(poller, SelectorPoller):
        pytest.skip("only epoll can be asked for hang-ups alone")
    poller.register(near.fileno(), 0)
    far.close()
    ((fd, mask),) = poller.poll(1)
    assert fd == near.fileno()
    assert mask & GONE
    poller.close()


def test_the_end_of_a_pipe_wakes_a_reader(poller: "Poller") -> None:
    reader, writer = os.pipe()
    poller.register(reader, READ)
    os.close(writer)
    ((fd, mask),) = poller.poll(1)
    assert fd == reader
    assert mask & (READ | GONE)
    poller.unregister(reader)
    os.close(reader)
