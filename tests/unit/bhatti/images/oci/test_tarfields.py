import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.images.oci.tarfields import MalformedTar, check_sum, parse_number, parse_text, shown


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        (b"0000644\0", 0o644),
        (b"   644 \0", 0o644),
        (b"644\0junk", 0o644),
        (b"\0\0\0\0", 0),
        (b"        ", 0),
        (b"\x80\0\0\0\0\0\x01\x00", 256),
        (b"\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
    ],
)
def test_numbers_are_octal_or_binary(raw: bytes, number: int) -> None:
    assert parse_number(raw) == number


@pytest.mark.parametrize("raw", [b"0000648\0", b"-1\0", b"0x10\0", b"1 1\0", b"\x01\0\0"])
def test_other_numbers_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedTar, match="not an octal number"):
        parse_number(raw)


@given(st.integers(-(256**11), 256**11 - 1))
def test_every_number_that_gnu_tar_can_write_is_read(number: int) -> None:
    assert parse_number(tarfile.itn(number, 12, tarfile.GNU_FORMAT)) == number  # type: ignore[attr-defined]


def test_a_name_ends_at_a_nul_or_with_its_field() -> None:
    assert (parse_text(b"abc\0def"), parse_text(b"abc"), parse_text(b"")) == (b"abc", b"abc", b"")


def test_a_checksum_may_count_bytes_as_signed() -> None:
    block = bytearray(tarfile.TarInfo("f").tobuf())
    block[:2] = b"\xc3\xa4"
    for total in (
        sum(block[:148]) + 256 + sum(block[156:]),
        sum(b - 256 if b > 127 else b for b in block[:148] + block[156:]) + 256,
    ):
        block[148:156] = b"%06o\0 " % total
        check_sum(bytes(block))
    block[148:156] = b"000001\0 "
    with pytest.raises(MalformedTar, match="checksum"):
        check_sum(bytes(block))


@given(st.binary(max_size=300))
def test_any_name_can_be_shown_on_one_line(name: bytes) -> None:
    text = shown(name)
    assert text.isprintable()
    assert len(text) <= 200
