import contextlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.bhatti.images.oci.making import archive, directory, file, hard_link, item, symlink

from bhatti.images.oci.streams import PlainInput
from bhatti.images.oci.tar import MAX_EXTENSION_BYTES, Entry, Kind, TarReader
from bhatti.images.oci.tarfields import MalformedTar

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def read(data: bytes) -> list[tuple[Entry, bytes]]:
    reader = TarReader(PlainInput(io.BytesIO(data)))
    found = []
    for entry in reader:
        content = bytearray(entry.size_bytes)
        for position, piece in reader.contents():
            content[position : position + len(piece)] = piece
        found.append((entry, bytes(content)))
    return found


@pytest.mark.parametrize("format", FORMATS)
def test_every_kind_of_entry_is_read(format: int) -> None:
    data = archive(
        [
            directory("d/", mode=0o1777),
            file("d/f", b"content", uid=1000, gid=100, mtime=1_500_000_000, mode=0o4755),
            symlink("d/s", "../f"),
            hard_link("d/h", "d/f"),
            item("pipe", tarfile.FIFOTYPE),
            item("tty", tarfile.CHRTYPE, devmajor=5, devminor=1),
            item("disk", tarfile.BLKTYPE),
        ],
        format,
    )
    (d, _), (f, content), (s, _), (h, _), *rest = read(data)
    assert (d.name.rstrip(b"/"), d.kind, d.mode) == (b"d", Kind.DIRECTORY, 0o1777)
    assert (f.name, f.kind, f.mode, f.uid, f.gid, f.size_bytes) == (b"d/f", Kind.FILE, 0o4755, 1000, 100, 7)
    assert (f.mtime_ns, content) == (1_500_000_000 * 10**9, b"content")
    assert (s.kind, s.link) == (Kind.SYMLINK, b"../f")
    assert (h.kind, h.link, h.size_bytes) == (Kind.HARD_LINK, b"d/f", 0)
    assert [e.kind for e, _ in rest] == [Kind.FIFO, Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_targets_are_read(format: int) -> None:
    name, target = "d/" * 200 + "file", "t/" * 300 + "target"
    (f, _), (s, _) = read(archive([file(name, b"x"), symlink(name + "s", target)], format))
    assert (f.name, s.name, s.link) == (name.encode(), name.encode() + b"s", target.encode())


def test_a_long_name_of_ustar_is_put_together() -> None:
    name = "d" * 100 + "/" + "f" * 90
    assert read(archive([file(name)], tarfile.USTAR_FORMAT))[0][0].name == name.encode()


def test_pax_brings_large_numbers_fractions_and_names_of_any_bytes() -> None:
    info, content = file("snow ☃", b"x", uid=3_000_000_000, mtime=1.5)
    info.pax_headers = {"SCHILY.xattr.security.capability": "\x01"}
    entry = read(archive([(info, content)]))[0][0]
    assert (entry.name, entry.uid, entry.mtime_ns) == ("snow ☃".encode(), 3_000_000_000, 1_500_000_000)
    assert entry.xattrs == {"security.capability": b"\x01"}


def test_global_records_hold_until_an_entry_says_otherwise() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"uid": "7"}) as tar:
        info, _ = file("a")
        tar.addfile(info)
        info, _ = file("b", uid=5_000_000)
        tar.addfile(info)
    assert [entry.uid for entry, _ in read(buffer.getvalue())] == [7, 5_000_000]


@pytest.mark.parametrize("format", ["gnu", "pax", "0.0", "0.1"])
def test_sparse_files_of_gnu_tar_are_read(tmp_path: Path, format: str) -> None:
    # Forty parts: more than fit into the header of the oldest format.
    content = bytearray(3 << 20)
    for part in range(40):
        content[part * 65536 : part * 65536 + 10] = b"0123456789"
    with (tmp_path / "sparse").open("wb") as out:
        for part in range(40):
            out.seek(part * 65536)
            out.write(b"0123456789")
        out.truncate(len(content))
    options = ["--format=gnu"] if format == "gnu" else ["--format=pax"]
    options += [f"--sparse-version={format}"] if "." in format else []
    data = subprocess.run(
        ["tar", "-C", tmp_path, "--sparse", *options, "-cf", "-", "sparse"], capture_output=True, check=True
    ).stdout
    ((entry, found),) = read(data)
    assert (entry.name, entry.size_bytes) == (b"sparse", 3 << 20)
    assert entry.extents is not None
    assert len(data) < 1 << 20
    assert found == content


def test_contents_that_nobody_reads_are_passed_over() -> None:
    data = archive([file("a", b"x" * 5000), file("b", b"y" * 700), file("c", b"z")])
    reader = TarReader(PlainInput(io.BytesIO(data)))
    names = []
    for entry in reader:
        names.append(entry.name)
        if entry.name == b"b":
            assert next(reader.contents())[1] == b"y" * 700
    assert names == [b"a", b"b", b"c"]


def test_the_position_of_contents_is_known() -> None:
    data = archive([file("a", b"first"), file("b" * 150, b"second")])
    reader = TarReader(PlainInput(io.BytesIO(data)))
    found = [data[reader.offset : reader.offset + entry.size_bytes] for entry in reader]
    assert found == [b"first", b"second"]


def test_an_old_archive_marks_directories_by_a_slash() -> None:
    block = bytearray(tarfile.TarInfo("old/").tobuf(tarfile.USTAR_FORMAT))
    block[156:157] = b"\0"
    block[257:265] = bytes(8)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert read(bytes(block))[0][0].kind is Kind.DIRECTORY


def test_an_archive_may_end_without_its_closing_blocks() -> None:
    data = archive([file("a", b"x" * 512)])
    assert [e.name for e, _ in read(data[:1024])] == [b"a"]
    assert read(b"") == []
    assert read(bytes(1024)) == []


@pytest.mark.parametrize("keep", [100, 600, 1500])
def test_an_archive_cut_off_in_an_entry_is_refused(keep: int) -> None:
    data = archive([file("a" * 120, b"x" * 3000)], tarfile.GNU_FORMAT)
    with pytest.raises(MalformedTar, match="ends in the middle"):
        read(data[:keep])


def test_an_archive_cut_off_in_contents_that_nobody_reads_is_refused() -> None:
    reader = TarReader(PlainInput(io.BytesIO(archive([file("a", b"x" * 3000)])[:1500])))
    with pytest.raises(MalformedTar, match="ends in the middle of a file's contents"):
        list(reader)


def test_a_damaged_header_in_the_middle_is_refused_and_not_taken_for_the_end() -> None:
    """As the standard library takes it: what comes after would be missing, and nobody would know."""
    first, second = archive([file("a")]), archive([file("b")])
    with pytest.raises(MalformedTar, match="checksum is wrong"):
        read(first[:512] + b"x" * 512 + second)


def test_names_in_a_row_without_end_are_read_one_by_one() -> None:
    names = (header(b"L", 4) + b"name".ljust(512, b"\0")) * 3000
    assert [entry.name for entry, _ in read(names + header(b"0", 0) + bytes(1024))] == [b"name"]


def test_what_is_no_archive_is_refused() -> None:
    with pytest.raises(MalformedTar, match="not a tar archive"):
        read(b"PK\3\4" + b"x" * 600)


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_an_extended_header_beyond_all_measure_is_not_read(kind: bytes) -> None:
    with pytest.raises(MalformedTar, match="an extended header of"):
        read(header(kind, MAX_EXTENSION_BYTES + 1) + bytes(4096))


@pytest.mark.parametrize("size", [-1, -(1 << 60)])
def test_a_negative_size_is_refused(size: int) -> None:
    with pytest.raises(MalformedTar):
        read(header(b"0", size) + bytes(1024))
    with pytest.raises(MalformedTar):
        read(header(b"x", size) + bytes(1024))


def test_an_unknown_kind_of_entry_is_refused_and_a_label_passed_over() -> None:
    with pytest.raises(MalformedTar, match="type b'M' are unknown"):
        read(header(b"M", 0))
    assert [e.name for e, _ in read(header(b"V", 3) + b"lab".ljust(512, b"\0") + archive([file("a")]))] == [b"a"]


def test_links_and_directories_have_no_contents_whatever_they_say() -> None:
    data = header(b"1", 5000) + archive([file("a", b"x")])
    assert [(e.kind, e.size_bytes) for e, _ in read(data)] == [(Kind.HARD_LINK, 0), (Kind.FILE, 1)]


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=120)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(names, st.binary(max_size=1500), st.integers(0, 2**33), st.integers(0, 0o7777)), max_size=4),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_whatever_tarfile_writes_is_read(items: list[tuple[str, bytes, int, int]], format: int) -> None:
    data = archive([file(n, c, mtime=t, mode=m) for n, c, t, m in items], format)
    assert [(e.name, c, e.mtime_ns // 10**9, e.mode) for e, c in read(data)] == [
        (n.encode(), c, t, m) for n, c, t, m in items
    ]


SAMPLE = archive(
    [directory("d"), file("d/f" * 60, b"x" * 700, mtime=1.5), symlink("s", "t" * 200), hard_link("h", "d/f")]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_a_damaged_archive_is_read_or_refused_but_never_anything_else(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for position, value in changes:
        data[position] = value
    for at in range(0, len(data), 512):  # make most headers believable again
        block = data[at : at + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    reader = TarReader(PlainInput(io.BytesIO(bytes(data))))
    pieces = []
    with contextlib.suppress(MalformedTar):
        for _ in reader:
            pieces += [piece for _, piece in reader.contents()]
    assert all(pieces)
