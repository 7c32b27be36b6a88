import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lohar.outbox import JOIN_SIZE, MAX_VECTORS, FilePart, Outbox


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    yield near, far
    near.close()
    far.close()


def drain(outbox: Outbox, near: socket.socket, far: socket.socket) -> bytes:
    """Send everything; return what arrived."""
    received = b""
    while True:
        try:
            received += far.recv(1 << 20)
        except BlockingIOError:
            if not outbox:
                return received
            outbox.write(near)


def test_pieces_are_sent_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox()
    assert not outbox
    for piece in (b"one", memoryview(b"two"), b"three"):
        outbox.add(piece)
    assert (bool(outbox), outbox.size) == (True, 11)
    assert drain(outbox, *pair) == b"onetwothree"
    assert (bool(outbox), outbox.size) == (False, 0)


@pytest.mark.parametrize("sizes", [[JOIN_SIZE, 1], [1 << 20], [300_000] * 5, [7] * (MAX_VECTORS * 3), [20_000] * 100])
def test_what_does_not_fit_is_sent_later(pair: tuple[socket.socket, socket.socket], sizes: list[int]) -> None:
    outbox = Outbox()
    pieces = [os.urandom(size) for size in sizes]
    for piece in pieces:
        outbox.add(piece)
    assert drain(outbox, *pair) == b"".join(pieces)
    assert outbox.size == 0


def test_a_full_socket_takes_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox()
    outbox.add(bytes(8 << 20))
    outbox.write(pair[0])  # as much as there is room for
    left = outbox.size
    assert 0 < left < 8 << 20
    with pytest.raises(BlockingIOError):
        outbox.write(pair[0])
    assert outbox.size == left


def test_parts_of_files_are_sent_between_pieces(tmp_path: Path, pair: tuple[socket.socket, socket.socket]) -> None:
    content = os.urandom(1_000_000)
    (tmp_path / "file").write_bytes(content)
    outbox = Outbox()
    with (tmp_path / "file").open("rb") as file:
        outbox.add(b"head")
        outbox.add(FilePart(file.fileno(), 10, 700_000))
        outbox.add(b"middle")
        outbox.add(FilePart(file.fileno(), 0, 10))
        outbox.add(b"end")
        assert outbox.size == 4 + 700_000 + 6 + 10 + 3
        received = drain(outbox, *pair)
    assert received == b"head" + content[10:700_010] + b"middle" + content[:10] + b"end"


def test_a_file_that_the_kernel_cannot_send_is_read(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox()
    fd = os.open("/proc/self/status", os.O_RDONLY)  # one that sendfile refuses, on kernels that refuse any
    try:
        outbox.add(FilePart(fd, 0, 5))
        assert drain(outbox, *pair) == b"Name:"
    finally:
        os.close(fd)


def test_a_file_that_has_become_too_short_is_an_error(
    tmp_path: Path, pair: tuple[socket.socket, socket.socket]
) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    outbox = Outbox()
    with (tmp_path / "file").open("rb") as file:
        outbox.add(FilePart(file.fileno(), 0, 10))
        outbox.write(pair[0])
        with pytest.raises(EOFError, match="5 bytes too early"):
            outbox.write(pair[0])


def test_a_dead_peer_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox()
    outbox.add(b"x")
    pair[1].close()
    with pytest.raises(BrokenPipeError):
        outbox.write(pair[0])


def test_clearing_forgets_everything() -> None:
    outbox = Outbox()
    outbox.add(b"x")
    outbox.clear()
    assert (bool(outbox), outbox.size) == (False, 0)
