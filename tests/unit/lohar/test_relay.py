import os
import socket
import threading
from collections.abc import Iterator

import pytest

from lohar.loop import Loop
from lohar.relay import RELAY_SIZE, Relay


class Fixture:
    """A relay between two sockets, and the far ends of both."""

    def __init__(self, family: int, first: bytes = b"") -> None:
        self.loop = Loop()
        self.left, near_left = connected(family)
        self.right, near_right = connected(family)
        for sock in (near_left, near_right):
            sock.setblocking(False)
        self.closed = 0
        self.relay = Relay(self.loop, near_left, near_right, first, self._on_close)
        for sock in (self.left, self.right):
            sock.settimeout(0)

    def _on_close(self) -> None:
        self.closed += 1

    def receive(self, sock: socket.socket, size: int) -> bytes:
        """Turn the loop until `size` bytes or the end came."""
        data = b""
        while len(data) < size:
            try:
                piece = sock.recv(size - len(data))
            except BlockingIOError:
                self.loop.turn(1)
                continue
            if not piece:
                break
            data += piece
        return data

    def close(self) -> None:
        self.relay.close()
        self.left.close()
        self.right.close()
        self.loop.close()


def connected(family: int) -> tuple[socket.socket, socket.socket]:
    if family == socket.AF_UNIX:
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        return near, far


@pytest.fixture(params=[socket.AF_UNIX, socket.AF_INET], ids=["unix", "tcp"])
def joined(request: pytest.FixtureRequest) -> Iterator[Fixture]:
    fixture = Fixture(request.param)
    yield fixture
    fixture.close()


def test_bytes_go_both_ways(joined: Fixture) -> None:
    joined.left.send(b"ping")
    assert joined.receive(joined.right, 4) == b"ping"
    joined.right.send(b"pong")
    assert joined.receive(joined.left, 4) == b"pong"


def test_what_came_with_the_request_goes_first() -> None:
    fixture = Fixture(socket.AF_UNIX, first=b"early ")
    fixture.left.send(b"late")
    assert fixture.receive(fixture.right, 10) == b"early late"
    fixture.close()


def test_one_direction_may_end_while_the_other_goes_on(joined: Fixture) -> None:
    joined.left.send(b"question")
    joined.left.shutdown(socket.SHUT_WR)
    assert joined.receive(joined.right, 100) == b"question"
    assert joined.closed == 0
    joined.right.send(b"answer")
    assert joined.receive(joined.left, 6) == b"answer"
    joined.right.close()
    while not joined.closed:
        joined.loop.turn(1)
    assert joined.receive(joined.left, 1) == b""


def start_writer(sock: socket.socket, data: bytes) -> threading.Thread:
    """Send `data` from another thread, then close."""

    def write() -> None:
        sock.settimeout(60)
        sock.sendall(data)
        sock.close()

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def test_a_slow_side_stops_the_other_and_loses_nothing(joined: Fixture) -> None:
    data = os.urandom(16 << 20)
    writer = start_writer(joined.left, data)
    while not joined.relay.right.waiting:
        joined.loop.turn(1)
    joined.loop.turn(0)
    assert len(joined.relay.right.waiting) <= RELAY_SIZE
    assert writer.is_alive(), "nobody reads at the far end, so it must have come to a halt"
    assert joined.receive(joined.right, len(data)) == data
    writer.join()


def test_the_last_bytes_before_a_close_arrive(joined: Fixture) -> None:
    data = os.urandom(300_000)
    writer = start_writer(joined.left, data)
    assert joined.receive(joined.right, len(data) + 1) == data, "all of it, then the end"
    writer.join()


def test_closing_twice_tells_once(joined: Fixture) -> None:
    joined.relay.close()
    joined.relay.close(abort=True)
    assert joined.closed == 1
