from itertools import pairwise

import pytest

from lohar.scrollback import MAX_SEGMENTS, Scrollback

OUT, ERR = 2, 3


def replay(scrollback: Scrollback, position: int, size: int = 4096) -> list[tuple[int, bytes]]:
    pieces = []
    while position < scrollback.total:
        kind, data = scrollback.read(position, size)
        pieces.append((kind, data))
        position += len(data)
    return pieces


def test_streams_come_back_apart_and_in_order() -> None:
    scrollback = Scrollback(100)
    scrollback.write(OUT, b"one ")
    scrollback.write(OUT, b"two")
    scrollback.write(ERR, b"oops")
    scrollback.write(OUT, b"three")
    assert replay(scrollback, 0) == [(OUT, b"one two"), (ERR, b"oops"), (OUT, b"three")]


def test_a_cursor_in_the_middle_of_a_stream_continues_there() -> None:
    scrollback = Scrollback(100)
    scrollback.write(OUT, b"abc")
    scrollback.write(ERR, b"def")
    assert replay(scrollback, 2) == [(OUT, b"c"), (ERR, b"def")]
    assert replay(scrollback, 4, size=1) == [(ERR, b"e"), (ERR, b"f")]


def test_old_output_goes_with_its_bookkeeping() -> None:
    scrollback = Scrollback(4)
    for kind in (OUT, ERR, OUT, ERR):
        scrollback.write(kind, b"xy")
    assert (scrollback.start, scrollback.total, scrollback.capacity) == (4, 8, 4)
    assert replay(scrollback, scrollback.start) == [(OUT, b"xy"), (ERR, b"xy")]
    assert len(scrollback._segments) == 2


def test_streams_that_alternate_by_the_byte_do_not_fill_the_memory() -> None:
    scrollback = Scrollback(1 << 20)
    for number in range(3 * MAX_SEGMENTS):
        scrollback.write(OUT if number % 2 else ERR, b"x")
    assert len(scrollback._segments) <= MAX_SEGMENTS
    pieces = replay(scrollback, scrollback.start)
    assert b"".join(data for _, data in pieces) == b"x" * (scrollback.total - scrollback.start)
    assert all(kind != following for (kind, _), (following, _) in pairwise(pieces))


def test_what_is_lost_cannot_be_read() -> None:
    scrollback = Scrollback(2)
    scrollback.write(OUT, b"abc")
    with pytest.raises(ValueError, match="position 0"):
        scrollback.read(0, 1)
