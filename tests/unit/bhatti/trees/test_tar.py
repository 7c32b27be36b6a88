import contextlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.trees.tar import (
    DIRECTORY,
    ENDING,
    MAX_EXTENSION_BYTES,
    Entry,
    Refused,
    Source,
    header,
    next_entry,
    remark,
    shown,
)

STATUS = Path(__file__).stat()


def entries(data: bytes, size: int = 512) -> list[Entry]:
    source = Source(iter([data[at : at + size] for at in range(0, len(data), size)]))
    found = []
    while (entry := next_entry(source)) is not None:
        found.append(entry)
        source.needed(entry.size + -entry.size % 512 if entry.kind == b"0" else 0)
    return found


def archive(form: int, *members: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as made:
        for member in members:
            made.addfile(member, io.BytesIO(b"x" * member.size))
    return stream.getvalue()


@given(
    st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name),
    st.binary(max_size=300).filter(lambda name: b"\0" not in name),
    st.integers(min_value=0, max_value=2**60),
    st.integers(min_value=1, max_value=4096),
)
def test_what_is_written_is_read_whatever_the_pieces(name: bytes, link: bytes, size: int, piece: int) -> None:
    written = header(name, STATUS, b"0", size=size, link=link)
    source = Source(iter([written[at : at + piece] for at in range(0, len(written), piece)]))
    entry = next_entry(source)
    assert entry is not None
    assert (entry.name, entry.link, entry.size, entry.mode) == (name, link, size, STATUS.st_mode & 0o7777)
    assert (entry.uid, entry.gid, entry.mtime) == (STATUS.st_uid, STATUS.st_gid, int(STATUS.st_mtime))


@pytest.mark.parametrize("size", [0, 1, 88, 89, 90, 986, 987, 988, 5000])  # where the length gets another digit
def test_remarks_stand_between_entries(size: int) -> None:
    whole = remark(b"x" * size) + header(b"folder/", STATUS, DIRECTORY) + ENDING
    heard: list[bytes] = []
    source = Source(iter([whole]))
    entry = next_entry(source, heard.append)
    assert entry is not None
    assert (entry.name, next_entry(source, heard.append), heard) == (b"folder/", None, [b"x" * size])
    with tarfile.open(fileobj=io.BytesIO(whole)) as found:
        assert found.getnames() == ["folder"]
        assert found.pax_headers["comment"] == "x" * size


def test_the_standard_library_reads_what_is_written() -> None:
    name = b"d/" + "ä".encode() * 100
    data = header(name, STATUS, b"0") + header(b"l", STATUS, b"2", link=b"to/" * 60) + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        first, second = found
    assert (first.name, second.linkname) == (name.decode(), "to/" * 60)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_the_standard_library_writes_is_read(form: int) -> None:
    long = tarfile.TarInfo("a" * 90 + "/" + "b" * 90)
    long.size = 700
    link = tarfile.TarInfo("ü")
    link.type, link.linkname = tarfile.SYMTYPE, "over/there"
    found = entries(archive(form, long, link))
    assert [(entry.name.decode(), entry.size, entry.link) for entry in found] == [
        (long.name, 700, b""),
        ("ü", 0, b"over/there"),
    ]


def test_times_before_1970_are_none() -> None:
    old = tarfile.TarInfo("old")
    old.mtime = -5
    assert entries(archive(tarfile.GNU_FORMAT, old))[0].mtime == 0


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x15]) + data[at + 1 :]


def test_what_is_damaged_or_cut_off_is_refused() -> None:
    data = archive(tarfile.PAX_FORMAT, tarfile.TarInfo("ü" * 200))
    for bad in (b"x" * 512, damaged(data, 0), data[:700], data[:100], damaged(data, 512)):
        with pytest.raises(Refused):
            entries(bad)
    size = b"%011o\0" % (MAX_EXTENSION_BYTES + 1)
    block = bytearray(header(b"x", STATUS, b"L"))
    block[124:136] = size
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    with pytest.raises(Refused, match="extended header"):
        entries(bytes(block))
    block[124:128] = b"9999"
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    with pytest.raises(Refused, match="no number"):
        entries(bytes(block))
    block[148:156] = b"999999\0 "
    with pytest.raises(Refused, match="no number"):
        entries(bytes(block))


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(Refused):
        entries(data)


def test_a_source_gives_what_there_is() -> None:
    def pieces() -> Iterator[bytes]:
        yield from (b"ab", b"", b"cde")

    source = Source(pieces())
    assert (source.exactly(3), bytes(source.some(1)), source.exactly(9)) == (b"abc", b"d", b"e")
    with pytest.raises(Refused):
        source.needed(1)


def test_names_of_strangers_can_be_shown() -> None:
    assert shown(b"a\x1b[2J\xff") == "a\\x1b[2J\\xff"
    assert len(shown(b"x" * 1000)) == 200


def test_it_is_read_where_nothing_but_the_standard_library_is() -> None:
    folder = Path(__file__).resolve().parents[4] / "src" / "bhatti" / "trees"
    imported = {
        line.split()[1].split(".")[0]
        for path in folder.glob("*.py")
        for line in path.read_text().splitlines()
        if line.startswith(("import ", "from ")) and "bhatti.trees" not in line
    }
    assert imported <= {"collections", "contextlib", "errno", "json", "os", "shutil", "stat", "sys"}
