import gzip
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.bhatti.images.oci.making import Pack, gzipped, plain, sha256, zstd

from bhatti.images.oci.digest import Verifier
from bhatti.images.oci.streams import (
    WRITE_BYTES,
    DamagedStream,
    Input,
    MeasuredInput,
    PlainInput,
    UnfoldedInput,
    Window,
    open_stream,
    unfold_gzip,
)

TEXT = b"".join(b"line %d\n" % i for i in range(300_000))


@pytest.mark.parametrize("pack", [plain, gzipped, zstd])
def test_a_layer_is_unfolded_by_its_first_bytes(pack: Pack) -> None:
    file = io.BytesIO(pack(TEXT))
    file.seek(5)  # wherever somebody left it
    with open_stream(file) as stream:
        assert stream.read(7) == TEXT[:7]
        assert stream.skip(1_000_000) == 1_000_000
        assert stream.read(len(TEXT)) == TEXT[1_000_007:]
        assert (stream.read(1), stream.skip(5)) == (b"", 0)


@pytest.mark.parametrize("pack", [gzipped, zstd])
def test_compressed_data_that_is_cut_off_is_damaged(pack: Pack) -> None:
    with open_stream(io.BytesIO(pack(TEXT)[:-20])) as stream, pytest.raises(DamagedStream, match="ends too early"):
        stream.skip(len(TEXT) + 1)


@pytest.mark.parametrize("pack", [gzipped, zstd])
def test_damage_is_noticed(pack: Pack) -> None:
    data = bytearray(pack(TEXT))
    data[len(data) // 2] ^= 0xFF
    with open_stream(io.BytesIO(bytes(data))) as stream, pytest.raises(DamagedStream, match="damaged"):
        stream.skip(len(TEXT) + 1)


def test_gzip_in_several_members_and_padding_is_one_stream() -> None:
    data = gzip.compress(b"first") + gzip.compress(b"") + gzip.compress(b"second") + bytes(1000)
    assert b"".join(unfold_gzip(io.BytesIO(data))) == b"firstsecond"


def test_something_else_after_gzip_is_damage() -> None:
    with pytest.raises(DamagedStream):
        list(unfold_gzip(io.BytesIO(gzip.compress(b"first") + b"junk")))


def test_a_bomb_unfolds_in_bounded_pieces() -> None:
    sizes = [len(piece) for piece in unfold_gzip(io.BytesIO(gzip.compress(bytes(20 << 20))))]
    assert sum(sizes) == 20 << 20
    assert max(sizes) <= WRITE_BYTES


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


@given(st.binary(max_size=200), st.lists(st.integers(0, 40)), st.lists(st.tuples(st.booleans(), st.integers(0, 60))))
def test_reading_and_skipping_is_the_same_whatever_the_pieces(
    data: bytes, sizes: list[int], calls: list[tuple[bool, int]]
) -> None:
    inputs: list[Input] = [UnfoldedInput(pieces(data, sizes)), PlainInput(io.BytesIO(data))]
    verifier = Verifier(sha256(data))
    counted = 0

    def count(size: int) -> None:
        nonlocal counted
        counted += size

    measured = MeasuredInput(UnfoldedInput(pieces(data, sizes)), verifier, count)
    for skip, size in calls:
        if skip:
            assert len({i.skip(size) for i in [*inputs, measured]}) == 1
        else:
            assert len({i.read(size) for i in [*inputs, measured]}) == 1
    measured.drain()
    assert (counted, verifier.matches()) == (len(data), True)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_windows_of_one_file_are_files_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with opened(path) as descriptor:
        first, second = (io.BufferedReader(Window(descriptor, start, 4)) for start in (1, 5))
    # The file itself is closed: each window has a descriptor of its own.
    with first, second:
        assert first.read(2) == b"12"
        assert second.read() == b"5678"
        assert first.read() == b"34"
        assert (first.seek(-1, os.SEEK_END), first.read(), first.read()) == (3, b"4", b"")
        assert (first.seek(1), first.seek(1, os.SEEK_CUR), first.read(1)) == (1, 2, b"3")
    raw = Window(os.open(path, os.O_RDONLY), 8, 100)
    assert raw.readall() == b"89"
    raw.close()
    raw.close()
