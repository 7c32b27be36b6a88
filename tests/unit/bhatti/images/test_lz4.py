import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.errors import CorruptData
from bhatti.images.lz4 import LEGACY_MAGIC, decode_block, decode_legacy


def literals(data: bytes) -> bytes:
    """Encode a block of literals alone."""
    length = len(data)
    if length < 15:
        return bytes([length << 4]) + data
    extra = length - 15
    return bytes([0xF0]) + b"\xff" * (extra // 255) + bytes([extra % 255]) + data


def container(*blocks: bytes) -> bytes:
    return LEGACY_MAGIC + b"".join(len(block).to_bytes(4, "little") + block for block in blocks)


@given(st.binary(max_size=1000))
def test_literals_of_any_length(data: bytes) -> None:
    assert decode_block(literals(data), max_bytes=1000) == data


def test_a_match_copies_what_came_before() -> None:
    # 4 literals, then a match of 4 bytes at distance 4, then 2 literals.
    assert decode_block(b"\x40abcd\x04\x00" + b"\x20ef", max_bytes=100) == b"abcdabcdef"


def test_an_overlapping_match_repeats() -> None:
    # 1 literal, a match of 4 + 15 + 7 bytes at distance 1.
    assert decode_block(b"\x1fa\x01\x00\x07", max_bytes=100) == b"a" * 27
    assert decode_block(b"\x3fabc\x03\x00\xff\x01", max_bytes=1000) == (b"abc" * 100)[: 3 + 4 + 15 + 256]


@pytest.mark.parametrize(
    "block", [b"\x40abcd\x05\x00", b"\x40abcd\x00\x00", b"\x50abcd", b"\x1fa\x01\x00\xff\xff\xff\x00"]
)
def test_a_block_that_refers_to_nothing_or_grows_too_large_is_corrupt(block: bytes) -> None:
    with pytest.raises(CorruptData):
        decode_block(block, max_bytes=100)


def test_blocks_follow_each_other_and_the_kernels_trailing_size_is_no_block() -> None:
    seen = []
    stream = container(literals(b"one"), literals(b"two")) + (6).to_bytes(4, "little")
    assert decode_legacy(stream, max_bytes=6, on_progress=lambda done, total: seen.append((done, total))) == b"onetwo"
    assert [total for _, total in seen] == [len(stream)] * 2


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"\x04\x22\x4d\x18", "magic"),
        (container(literals(b"one"), literals(b"two")), "more than 5 bytes"),
        (container(b"\x40abcd\x04"), "ends in the middle"),
    ],
)
def test_a_damaged_stream_is_corrupt(stream: bytes, reason: str) -> None:
    with pytest.raises(CorruptData, match=reason):
        decode_legacy(stream, max_bytes=5)


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        assert len(decode_legacy(LEGACY_MAGIC + data, max_bytes=10_000)) <= 10_000
    except CorruptData as error:
        assert error.code == "corrupt-data"  # noqa: PT017 - either outcome is right


@pytest.mark.skipif(shutil.which("lz4") is None, reason="compares with the lz4 program: apt install lz4")
@given(st.lists(st.sampled_from([b"abc", b"\0" * 50, b"kernel", b"\x7fELF"]), max_size=300).map(b"".join))
def test_what_the_lz4_program_packs_is_unpacked(data: bytes) -> None:
    packed = subprocess.run(["lz4", "-l", "-9", "-c"], input=data, capture_output=True, check=True).stdout
    assert decode_legacy(packed, max_bytes=len(data)) == data
