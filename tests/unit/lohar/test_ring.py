import pytest

from lohar.ring import Ring


def kept(ring: Ring) -> bytes:
    return ring.read(ring.start, ring.capacity)


def test_what_fits_is_kept_whole() -> None:
    ring = Ring(8)
    ring.write(b"abc")
    ring.write(b"def")
    assert (ring.start, ring.total, kept(ring)) == (0, 6, b"abcdef")


def test_the_oldest_bytes_make_room_and_the_order_stays() -> None:
    ring = Ring(8)
    for piece in (b"abcdef", b"ghij", b"k"):
        ring.write(piece)
    assert (ring.start, ring.total, kept(ring)) == (3, 11, b"defghijk")


@pytest.mark.parametrize("size", [8, 9, 16, 100])
def test_of_a_write_as_large_as_the_ring_only_the_end_survives(size: int) -> None:
    ring = Ring(8)
    ring.write(b"xyz")
    data = bytes(range(size))
    ring.write(data)
    assert kept(ring) == data[-8:]
    assert ring.total == 3 + size


def test_any_sequence_of_writes_reads_like_the_end_of_all_bytes() -> None:
    ring, everything = Ring(7), b""
    for size in [0, 1, 6, 7, 8, 3, 3, 14, 2, 5]:
        piece = bytes((len(everything) + i) % 251 for i in range(size))
        ring.write(memoryview(piece))
        everything += piece
        assert kept(ring) == everything[-7:]
        assert ring.total == len(everything)


def test_a_reader_continues_at_its_position() -> None:
    ring = Ring(4)
    ring.write(b"abcdef")
    assert ring.read(3, 2) == b"de"
    assert ring.read(5, 10) == b"f"
    assert ring.read(6, 10) == b"", "at the end there is nothing yet"


@pytest.mark.parametrize("position", [0, 1, 7])
def test_positions_outside_are_refused(position: int) -> None:
    ring = Ring(4)
    ring.write(b"abcdef")
    with pytest.raises(ValueError, match=f"position {position} is not within 2 to 6"):
        ring.read(position, 1)


def test_what_is_forgotten_cannot_be_read() -> None:
    ring = Ring(8)
    ring.write(b"abcdef")
    ring.forget(4)
    ring.forget(2)
    assert (ring.start, kept(ring)) == (4, b"ef")
    ring.forget(100)
    assert ring.start == ring.total == 6


def test_memory_is_taken_as_bytes_come() -> None:
    ring = Ring(1 << 30)
    ring.write(b"x")
    assert len(ring._buffer) == 1


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_ring_without_room_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="a ring of"):
        Ring(capacity)
