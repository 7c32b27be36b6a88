"""What both flavours build on is tested in theirs; here is what no honest daemon does."""

import select
import socket
from collections.abc import Iterator

import pytest

from bhatti.sdk.duplex import HIGH_WATER_BYTES, Duplex
from bhatti.sdk.talks import Message
from bhatti.sdk.websocket import BINARY, CLOSE, PING, PONG, TEXT, SocketViolation, frame


@pytest.fixture
def ends() -> Iterator[tuple[Duplex, socket.socket]]:
    ours, theirs = socket.socketpair()
    duplex = Duplex(ours, b"")
    yield duplex, theirs
    duplex.close()
    theirs.close()


def from_server(opcode: int, payload: bytes) -> bytes:
    """Return a short frame as a server sends it, without a mask."""
    return bytes([0x80 | opcode, len(payload)]) + payload


def served(duplex: Duplex) -> None:
    duplex._wanted()
    duplex._serve(select.POLLIN | select.POLLOUT)


def test_a_ping_is_answered(ends: tuple[Duplex, socket.socket]) -> None:
    duplex, theirs = ends
    theirs.sendall(from_server(PING, b"there?"))
    served(duplex)
    served(duplex)
    assert theirs.recv(100) == frame(PONG, b"there?")
    assert duplex._next() is None


def test_what_came_before_the_end_is_received_before_it(ends: tuple[Duplex, socket.socket]) -> None:
    duplex, theirs = ends
    theirs.sendall(from_server(TEXT, b"last") + from_server(CLOSE, b"\x03\xe8bye"))
    served(duplex)
    assert duplex._next() == (TEXT, b"last")
    with pytest.raises(EOFError, match="bye"):
        duplex._next()


def test_messages_may_come_with_the_answer_that_began_it() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        duplex = Duplex(ours, from_server(BINARY, b"early"))
        assert duplex._next() == (BINARY, b"early")
        duplex.close()
        with pytest.raises(EOFError, match="it was closed"):
            duplex._next()


def test_no_more_is_taken_than_the_other_side_takes(ends: tuple[Duplex, socket.socket]) -> None:
    duplex, _ = ends
    taken = []

    def supply() -> Iterator[Message]:
        while True:
            taken.append(1)
            yield BINARY, bytes(HIGH_WATER_BYTES // 4)

    duplex.supply(supply())
    assert duplex._wanted() & select.POLLOUT
    assert len(taken) == 4
    assert duplex._sending


def test_nobody_who_listens_is_heard_of_by_reading(ends: tuple[Duplex, socket.socket]) -> None:
    duplex, theirs = ends
    theirs.close()
    duplex._put(((BINARY, b"lost"),))
    duplex._serve(select.POLLOUT)
    assert not duplex._sending
    duplex._serve(select.POLLIN)
    with pytest.raises(EOFError, match="closed the connection"):
        duplex._next()


def test_what_is_no_frame_is_refused(ends: tuple[Duplex, socket.socket]) -> None:
    duplex, theirs = ends
    theirs.sendall(b"\xff\xff")
    with pytest.raises(SocketViolation):
        served(duplex)
