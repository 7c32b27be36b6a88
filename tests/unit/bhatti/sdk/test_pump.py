import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.frames import Frame, Opcode

from bhatti.sdk.pump import HIGH_WATER_BYTES, Broken, Pump
from bhatti.sdk.websocket import BINARY, TEXT


def frame(opcode: Opcode, payload: bytes) -> bytes:
    return Frame(opcode, payload).serialize(mask=False)


BYE = frame(Opcode.TEXT, b"bye")


class Peer:
    """The daemon's end of a pump."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.ours.settimeout(60)
        self.pump = Pump(theirs, b"")
        self.theirs = theirs
        self.heard: list[tuple[int, bytes]] = []
        self.typed: list[bytes] = []

    def on_message(self, opcode: int, payload: bytes) -> bool:
        self.heard.append((opcode, payload))
        return payload == b"bye"

    def on_input(self, data: bytes) -> None:
        self.typed.append(data)
        self.pump.send(BINARY, data)

    def read_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (piece := self.ours.recv(size - len(data))):
            data += piece
        return data


@contextlib.contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    """Run `work` beside the block; its errors come out here."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as err:
            errors.append(err)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        thread.join(10)
    assert not errors, errors


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    yield found
    found.ours.close()
    found.theirs.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def test_messages_are_heard_until_the_last(peer: Peer) -> None:
    peer.ours.sendall(frame(Opcode.BINARY, b"one") + frame(Opcode.TEXT, b"two") + BYE)
    peer.pump.run(peer.on_message)
    assert peer.heard == [(BINARY, b"one"), (TEXT, b"two"), (TEXT, b"bye")]


def test_messages_that_came_with_the_handshake_are_heard_first(peer: Peer) -> None:
    Pump(peer.theirs, BYE).run(peer.on_message)
    assert peer.heard == [(TEXT, b"bye")]


def test_input_is_passed_on_up_to_its_end(peer: Peer, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"typed")
    os.close(writer)

    def serve() -> None:
        assert peer.read_exactly(6 + 5)[-5:] == b"typed"
        assert len(peer.read_exactly(6)) == 6  # the empty message: the end of input
        peer.ours.sendall(BYE)

    with in_thread(serve):
        peer.pump.run(peer.on_message, peer.on_input, stdin=reader)
    assert peer.typed == [b"typed", b""]


def test_an_input_that_is_closed_from_the_beginning_is_at_its_end(peer: Peer, pipe: tuple[int, int]) -> None:
    reader, _ = pipe
    os.close(reader)

    def serve() -> None:
        peer.read_exactly(6)
        peer.ours.sendall(BYE)

    with in_thread(serve):
        peer.pump.run(peer.on_message, peer.on_input, stdin=reader)
    assert peer.typed == [b""]


def test_a_file_is_read_like_a_pipe(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    with (tmp_path / "file").open("rb") as file, in_thread(lambda: swallow(peer, 300_000)):
        peer.pump.run(peer.on_message, peer.on_input, stdin=file.fileno())
    assert b"".join(peer.typed) == b"x" * 300_000


def swallow(peer: Peer, size: int) -> None:
    """Take messages until so much payload has come, then say good-bye."""
    received = 0
    while received < size:
        received += len(peer.ours.recv(1 << 20))
    peer.ours.sendall(BYE)


def test_input_is_left_alone_while_the_daemon_does_not_take(peer: Peer) -> None:
    with open("/dev/zero", "rb") as endless:  # noqa: PTH123
        took = threading.Event()

        def serve() -> None:
            took.wait(0.3)  # nothing is read meanwhile
            sizes.append(sum(map(len, peer.typed)))
            peer.ours.sendall(BYE)

        sizes: list[int] = []
        with in_thread(serve):
            peer.pump.run(peer.on_message, peer.on_input, stdin=endless.fileno())
    assert sizes[0] < 3 * HIGH_WATER_BYTES


def test_pings_are_answered(peer: Peer) -> None:
    peer.ours.sendall(frame(Opcode.PING, b"?"))

    def serve() -> None:
        assert peer.read_exactly(7)[0] == 0x8A
        peer.ours.sendall(BYE)

    with in_thread(serve):
        peer.pump.run(peer.on_message)


def test_a_watched_descriptor_is_told_of(peer: Peer, pipe: tuple[int, int]) -> None:
    reader, writer = pipe

    def on_ready() -> None:
        assert os.read(reader, 10) == b"!"
        peer.pump.stop()

    peer.pump.watch(reader, on_ready)
    os.write(writer, b"!")
    peer.pump.run(peer.on_message)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda peer: peer.ours.close(), "closed the connection"),
        (lambda peer: peer.ours.sendall(frame(Opcode.CLOSE, b"\x03\xe9the daemon is stopping")), "stopping"),
        (lambda peer: peer.ours.sendall(frame(Opcode.CLOSE, b"")), "closed the connection"),
    ],
)
def test_an_end_before_the_end_is_told(peer: Peer, end: Callable[[Peer], None], reason: str) -> None:
    end(peer)
    with pytest.raises(Broken, match=reason):
        peer.pump.run(peer.on_message)


def test_a_reset_is_told_after_what_was_said_before(peer: Peer) -> None:
    peer.pump.send(BINARY, b"never heard")
    peer.ours.sendall(frame(Opcode.BINARY, b"last words"))
    peer.ours.close()
    with pytest.raises(Broken):
        peer.pump.run(peer.on_message)
    assert peer.heard == [(BINARY, b"last words")]


def test_what_is_to_be_done_later_is_done_once(peer: Peer, pipe: tuple[int, int]) -> None:
    done: list[str] = []

    def late() -> None:
        done.append("late")
        peer.pump.later(0.01, peer.pump.stop)

    peer.pump.later(60, lambda: done.append("never"))
    peer.pump.later(0.01, late)
    peer.pump.run(peer.on_message, peer.on_input, stdin=pipe[0])
    assert done == ["late"]
