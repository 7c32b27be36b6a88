import os
from collections.abc import Iterator

import pytest

from lohar.loop import Loop
from lohar.pipes import STDIN_HIGH_WATER, InputPipe, OutputPipe, make_pipe


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


class Sink:
    """What comes out of an `OutputPipe`."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = 0

    def write(self, data: bytes) -> None:
        self.data += data

    def end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("ours", [0, 1])
def test_only_our_end_does_not_block(ours: int) -> None:
    near, far = make_pipe(ours)
    assert not os.get_blocking(near)
    assert os.get_blocking(far)
    assert not os.get_inheritable(near)
    os.close(near)
    os.close(far)


def test_output_comes_as_it_is_written_and_then_its_end(loop: Loop) -> None:
    near, far = make_pipe(0)
    sink = Sink()
    pipe = OutputPipe(loop, near, sink.write, sink.end)
    os.write(far, b"hello")
    loop.turn(1)
    assert (sink.data, sink.ended, pipe.open) == (b"hello", 0, True)
    os.close(far)
    loop.turn(1)
    assert (sink.ended, pipe.open) == (1, False)
    pipe.close()


def test_paused_output_stays_in_the_pipe_until_it_is_wanted(loop: Loop) -> None:
    near, far = make_pipe(0)
    sink = Sink()
    pipe = OutputPipe(loop, near, sink.write, sink.end)
    pipe.pause()
    pipe.pause()
    os.write(far, b"later")
    loop.turn(0)
    assert sink.data == b""
    pipe.drain()
    assert sink.data == b"later"
    os.write(far, b" still")
    loop.turn(0)
    assert sink.data == b"later"
    pipe.resume()
    loop.turn(0)
    assert sink.data == b"later still"
    os.close(far)
    pipe.close()
    assert sink.ended == 0, "we closed it; nobody said that there is no more"


def test_discarded_output_goes_nowhere_until_its_last_writer_has_gone(loop: Loop) -> None:
    near, far = make_pipe(0)
    sink = Sink()
    pipe = OutputPipe(loop, near, sink.write, sink.end)
    pipe.pause()
    pipe.discard()
    os.write(far, b"x" * 1000)
    loop.turn(1)
    assert pipe.open, "its writer lives and must not get SIGPIPE"
    os.close(far)
    loop.turn(1)
    assert (pipe.open, sink.data, sink.ended) == (False, b"", 0)


def test_reads_are_no_larger_than_asked_for(loop: Loop) -> None:
    near, far = make_pipe(0)
    sizes: list[int] = []
    pipe = OutputPipe(loop, near, lambda data: sizes.append(len(data)), lambda: None, size=10)
    os.write(far, b"x" * 25)
    for _ in range(3):
        loop.turn(1)
    assert sizes == [10, 10, 5]
    os.close(far)
    pipe.close()


def test_the_hang_up_of_a_terminal_is_its_end(loop: Loop) -> None:
    master, slave = os.openpty()
    os.set_blocking(master, False)
    sink = Sink()
    pipe = OutputPipe(loop, master, sink.write, sink.end)
    os.close(slave)
    loop.turn(1)
    assert (sink.ended, pipe.open) == (1, False)


def test_input_arrives_in_order_and_then_its_end(loop: Loop) -> None:
    near, far = make_pipe(1)
    pipe = InputPipe(loop, near, lambda: None)
    pipe.write(b"one ")
    pipe.write(b"two")
    pipe.end()
    pipe.write(b"after the end")
    assert os.read(far, 100) == b"one two"
    assert os.read(far, 100) == b""
    os.close(far)


def test_input_that_is_not_read_waits_and_says_when_there_is_room(loop: Loop) -> None:
    near, far = make_pipe(1)
    room: list[bool] = []
    pipe = InputPipe(loop, near, lambda: room.append(pipe.full))
    data = os.urandom(STDIN_HIGH_WATER + (256 << 10))
    for start in range(0, len(data), 50_000):
        pipe.write(data[start : start + 50_000])
    assert pipe.full
    pipe.end()
    received = b""
    while len(received) < len(data):
        received += os.read(far, 1 << 16)
        loop.turn(0)
    assert received == data
    assert room == [False], "told once, when the level had fallen"
    assert os.read(far, 1) == b""
    os.close(far)


def test_input_for_a_command_that_reads_no_more_is_dropped(loop: Loop) -> None:
    near, far = make_pipe(1)
    os.close(far)
    pipe = InputPipe(loop, near, lambda: None)
    pipe.write(b"x")
    pipe.write(b"y")
    assert not pipe.full
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(near)


def test_without_a_pipe_everything_is_dropped(loop: Loop) -> None:
    pipe = InputPipe(loop, -1, lambda: None)
    pipe.write(b"x" * (2 * STDIN_HIGH_WATER))
    pipe.end()
    pipe.close()
    assert not pipe.full
