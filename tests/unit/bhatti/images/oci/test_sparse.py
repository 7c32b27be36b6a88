import pytest

from bhatti.images.oci import sparse
from bhatti.images.oci.tarfields import MalformedTar


@pytest.mark.parametrize(
    ("records", "version"),
    [
        ({}, None),
        ({"GNU.sparse.major": b"1", "GNU.sparse.minor": b"0"}, (1, 0)),
        ({"GNU.sparse.major": b"0", "GNU.sparse.minor": b"1"}, (0, 1)),
        ({"GNU.sparse.size": b"5"}, (0, 1)),
        ({"GNU.sparse.map": b"0,1"}, (0, 1)),
    ],
)
def test_the_format_is_recognised(records: dict[str, bytes], version: tuple[int, int] | None) -> None:
    assert sparse.version(records) == version


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(MalformedTar, match="unknown"):
        sparse.version({"GNU.sparse.major": b"2", "GNU.sparse.minor": b"0"})


def test_a_listed_map() -> None:
    assert sparse.listed_map({"GNU.sparse.map": b"0,5,10,2"}) == [(0, 5), (10, 2)]
    assert sparse.listed_map({}) == []
    assert sparse.real_size({"GNU.sparse.size": b"12"}) == 12


@pytest.mark.parametrize("raw", [b"1", b"1,2,3", b"1,x", b"1,", b"-1,5", b"1" * 30 + b",1"])
def test_a_listed_map_that_makes_no_sense_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedTar):
        sparse.listed_map({"GNU.sparse.map": raw})


def blocks(content: bytes) -> "list[bytes]":
    padded = content + bytes(-len(content) % 512)
    return [padded[i : i + 512] for i in range(0, len(padded), 512)][::-1]


def test_a_stored_map_may_cross_blocks() -> None:
    extents = [(i * 10, 5) for i in range(200)]
    text = b"200\n" + b"".join(b"%d\n%d\n" % pair for pair in extents)
    left = blocks(text)
    assert sparse.stored_map(left.pop) == extents
    assert left == []


@pytest.mark.parametrize("content", [b"x\n", b"1\n5\n-1\n", b"9" * 600, b"70000\n", b"\n"])
def test_a_stored_map_that_makes_no_sense_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedTar):
        sparse.stored_map(blocks(content).pop)


def test_a_map_of_endless_parts_is_refused_early() -> None:
    with pytest.raises(MalformedTar, match="more than 65536 parts"):
        sparse.listed_map({"GNU.sparse.map": b"0,0," * 200_000 + b"0,0"})
    header = bytearray(512)
    header[482] = 1
    more = b"".join(b"%011o\0%011o\0" % (0, 0) for _ in range(21)) + b"\x01" + bytes(7)
    read = 0

    def block() -> bytes:
        nonlocal read
        read += 1
        return more

    with pytest.raises(MalformedTar, match="more than 65536 parts"):
        sparse.old_map(bytes(header), block)
    assert read < 4000


@pytest.mark.parametrize(
    ("extents", "stored", "size"),
    [([(0, 5), (4, 1)], 6, 10), ([(0, 5)], 4, 10), ([(0, 11)], 11, 10), ([(0, -1), (5, 2)], 1, 10)],
)
def test_a_map_must_fit_to_the_file_and_to_what_is_stored(extents: sparse.Extents, stored: int, size: int) -> None:
    with pytest.raises(MalformedTar):
        sparse.check(extents, stored, size)


def test_a_map_that_fits_passes() -> None:
    sparse.check([(0, 5), (5, 0), (8, 2)], 7, 10)
