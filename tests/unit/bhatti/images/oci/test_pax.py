import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.images.oci import pax
from bhatti.images.oci.tarfields import MalformedTar


def record(key: str, value: bytes) -> bytes:
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


def test_records_are_read_and_unknown_ones_left_out() -> None:
    content = record("path", b"a\nb=c") + record("comment", b"x" * 200) + record("mtime", b"1.5")
    assert pax.parse(content) == {"path": b"a\nb=c", "mtime": b"1.5"}


def test_a_later_record_replaces_an_earlier_one() -> None:
    assert pax.parse(record("path", b"a") + record("path", b"b")) == {"path": b"b"}


def test_padding_after_the_records_is_no_record() -> None:
    assert pax.parse(record("path", b"a") + b"\0\0\0") == {"path": b"a"}


@pytest.mark.parametrize(
    "content",
    [b"path=a\n", b"12 path", b"999 path=a\n", b"3 path=a\n", b"9 path=ab", b"8 nokey\n", b"-9 path=a\n",
     b"1" * 30 + b" path=a\n", b"0 path=a\n"],
)  # fmt: skip
def test_records_that_do_not_end_where_they_say_are_refused(content: bytes) -> None:
    with pytest.raises(MalformedTar):
        pax.parse(content)


def test_pairs_of_the_oldest_sparse_format_become_a_list() -> None:
    offset, numbytes = "GNU.sparse.offset", "GNU.sparse.numbytes"
    pairs = record(offset, b"0") + record(numbytes, b"5") + record(offset, b"9") + record(numbytes, b"1")
    assert pax.parse(pairs) == {"GNU.sparse.map": b"0,5,9,1"}
    with pytest.raises(MalformedTar, match="alternate"):
        pax.parse(record(offset, b"0") + record(offset, b"5"))


def test_numbers_and_times_come_from_the_record_or_from_the_header() -> None:
    records = pax.parse(record("size", b"12") + record("mtime", b"-1.25"))
    assert pax.integer(records, "size", lambda: 1) == 12
    assert pax.integer(records, "uid", lambda: 7) == 7
    assert pax.nanoseconds(records, "mtime", lambda: 1) == -1_250_000_000
    assert pax.nanoseconds({}, "mtime", lambda: 3) == 3_000_000_000
    assert pax.nanoseconds({"mtime": b"1.1234567899"}, "mtime", lambda: 0) == 1_123_456_789
    assert pax.nanoseconds({"mtime": b"5."}, "mtime", lambda: 0) == 5_000_000_000


@pytest.mark.parametrize("value", [b"x", b"1e9", b"0x1", b"1" * 21, b" 1", b"1\n"])
def test_other_numbers_and_times_are_refused(value: bytes) -> None:
    with pytest.raises(MalformedTar):
        pax.integer({"size": value}, "size", lambda: 0)
    with pytest.raises(MalformedTar):
        pax.nanoseconds({"mtime": value}, "mtime", lambda: 0)


def test_a_name_with_a_nul_is_refused() -> None:
    with pytest.raises(MalformedTar, match="NUL"):
        pax.text({"path": b"a\0b"}, "path")


def test_of_the_extended_attributes_only_capabilities_are_kept() -> None:
    capability = record("SCHILY.xattr.security.capability", b"\x01\0\0\x02")
    others = record("SCHILY.xattr.user.x", b"1") + record("SCHILY.xattr.trusted.overlay.opaque", b"y")
    assert pax.xattrs(pax.parse(capability + others)) == {"security.capability": b"\x01\0\0\x02"}
    assert pax.xattrs(pax.parse(others)) == {}


@given(st.lists(st.tuples(st.sampled_from(["path", "size", "mtime"]), st.binary(max_size=60)), max_size=5))
def test_what_was_written_is_read(records: list[tuple[str, bytes]]) -> None:
    assert pax.parse(b"".join(record(k, v) for k, v in records)) == dict(records)


@given(st.binary(max_size=80))
def test_any_bytes_are_records_or_refused(content: bytes) -> None:
    try:
        records = pax.parse(content)
    except MalformedTar:
        return
    assert all(b"=" in content for _ in records)
