import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.bhatti.images.oci.making import archive, directory, file, hard_link, item, symlink

from bhatti.errors import LimitExceeded
from bhatti.images.oci.layer import Budget, apply_layer
from bhatti.images.oci.streams import PlainInput
from bhatti.images.oci.tar import TarReader
from bhatti.images.oci.tree import EntryRefused, Tree

Items = list[tuple[tarfile.TarInfo, bytes]]
pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


def apply(root: Path, *layers: Items, max_bytes: int = 1 << 30, max_entries: int = 1000) -> Budget:
    budget = Budget(max_bytes, max_entries, "test")
    with Tree(root) as tree:
        for layer in layers:
            apply_layer(TarReader(PlainInput(io.BytesIO(archive(layer)))), tree, budget)
        tree.set_times()
    return budget


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_attributes_are_those_of_the_archive(root: Path) -> None:
    apply(
        root,
        [
            directory(".", mode=0o700, uid=3, gid=4, mtime=7),
            directory("d", mode=0o2775, uid=10, gid=20, mtime=5),
            file("d/setuid", b"x", mode=0o4755, uid=0, gid=42, mtime=1_000_000_000),
            symlink("d/link", "nowhere", uid=8, gid=9, mtime=6),
            item("d/pipe", tarfile.FIFOTYPE, mode=0o622, uid=1, gid=2),
            file("d/zero", mode=0),
        ],
    )
    found = (root / "d/setuid").stat()
    assert (mode(root / "d/setuid"), found.st_uid, found.st_gid, found.st_mtime) == (0o4755, 0, 42, 1_000_000_000)
    found = (root / "d").stat()
    assert (mode(root / "d"), found.st_uid, found.st_gid, found.st_mtime) == (0o2775, 10, 20, 5)
    found = (root / "d/link").lstat()
    assert (os.readlink(root / "d/link"), found.st_uid, found.st_gid, found.st_mtime) == ("nowhere", 8, 9, 6)  # noqa: PTH115
    found = (root / "d/pipe").lstat()
    assert (stat.S_ISFIFO(found.st_mode), mode(root / "d/pipe"), found.st_uid) == (True, 0o622, 1)
    assert mode(root / "d/zero") == 0
    found = root.stat()
    assert (mode(root), found.st_uid, found.st_gid, found.st_mtime) == (0o700, 3, 4, 7)


def test_capabilities_are_kept(root: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep
    info, content = file("ping", b"x", mode=0o755, uid=5)
    info.pax_headers = {"SCHILY.xattr.security.capability": capability.decode("latin-1")}
    assert apply(root, [(info, content)]).lost_capabilities == 0
    assert os.getxattr(root / "ping", "security.capability") == capability


def test_times_that_no_file_system_has_are_moved_into_range(root: Path) -> None:
    apply(root, [file("early", mtime=-5.5), file("late", mtime=2**60), directory("d", mtime=10**19)])
    assert [(root / n).stat().st_mtime for n in ("early", "late", "d")] == [0, 2**31 - 1, 2**31 - 1]


def test_hard_links_share_their_file(root: Path) -> None:
    apply(
        root,
        [file("a", b"x"), hard_link("b", "a"), hard_link("d/c", "./a"), hard_link("e", "/a"), hard_link("a", "a")],
        [symlink("way", "d"), hard_link("f", "way/c")],
    )
    assert {(root / n).stat().st_ino for n in ("a", "b", "d/c", "e", "f")} == {(root / "a").stat().st_ino}
    assert (root / "a").stat().st_nlink == 5


def test_a_hard_link_to_a_link_is_the_link_again(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    apply(root, [symlink("a", str(tmp_path / "secret")), hard_link("b", "a")])
    assert os.readlink(root / "b") == str(tmp_path / "secret")  # noqa: PTH115
    assert (tmp_path / "secret").stat().st_nlink == 1


@pytest.mark.parametrize("target", ["missing", "d", "../secret", "a/../../secret", "way/secret", "file/x"])
def test_a_hard_link_to_no_file_of_the_image_is_refused(root: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(EntryRefused):
        apply(root, [directory("d"), file("file"), symlink("way", str(tmp_path)), hard_link("b", target)])
    assert (tmp_path / "secret").stat().st_nlink == 1


def test_writing_never_follows_a_link(root: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"kept")
    apply(
        root,
        [symlink("link", str(victim)), file("link", b"overwritten", mode=0o777)],
        [symlink("dir", str(tmp_path)), file("dir/victim", b"overwritten"), file("dir/new", b"new")],
        [symlink("fifo", str(victim)), item("fifo", tarfile.FIFOTYPE, uid=7)],
    )
    assert victim.read_bytes() == b"kept"
    assert (victim.stat().st_uid, mode(victim)) == (0, 0o644)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "victim"]
    assert (root / "link").read_bytes() == b"overwritten"
    assert not (root / "link").is_symlink()


def test_writing_over_one_hard_link_leaves_the_other(root: Path) -> None:
    apply(root, [file("a", b"first"), hard_link("b", "a")], [file("b", b"second")])
    assert ((root / "a").read_bytes(), (root / "b").read_bytes()) == (b"first", b"second")


def test_the_last_of_several_entries_for_a_name_counts(root: Path) -> None:
    apply(
        root,
        [
            file("x", b"1"), file("x", b"2"),
            directory("d"), file("d/inner"), file("d", b"file now"),
            file("f"), directory("f"), file("f/inner"),
            symlink("l", "f"), directory("l"), file("l/own"),
            directory("twice", mode=0o700), file("twice/kept"), directory("twice", mode=0o711),
        ],
    )  # fmt: skip
    assert names(root) == ["d", "f", "f/inner", "l", "l/own", "twice", "twice/kept", "x"]
    assert (root / "x").read_bytes() == b"2"
    assert mode(root / "twice") == 0o711


def test_a_layer_adds_to_directories_of_the_ones_below(root: Path) -> None:
    apply(root, [directory("d", mode=0o700), file("d/a")], [file("d/b")], [directory("d", mode=0o750), file("d/c")])
    assert names(root) == ["d", "d/a", "d/b", "d/c"]
    assert mode(root / "d") == 0o750


def test_a_whiteout_removes_what_is_below(root: Path) -> None:
    apply(
        root,
        [file("a"), file("d/x"), file("d/y"), file("e/z"), symlink("way", "e")],
        [file(".wh.a"), file("d/.wh.x"), file(".wh.missing"), file("no/such/.wh.x"), file("way/.wh.z")],
        [file(".wh.d")],
    )
    assert names(root) == ["e", "way"]


def test_a_whiteout_of_a_link_leaves_its_target(root: Path) -> None:
    apply(root, [file("d/x"), symlink("way", "d")], [file(".wh.way")])
    assert names(root) == ["d", "d/x"]


def test_an_opaque_directory_hides_what_is_below(root: Path) -> None:
    apply(
        root,
        [file("d/old"), file("d/sub/old"), file("other")],
        [directory("d"), file("d/before"), file("d/.wh..wh..opq"), file("d/after"), file("d/sub/new")],
    )
    assert names(root) == ["d", "d/after", "d/before", "d/sub", "d/sub/new", "other"]


def test_an_opaque_root_and_one_behind_a_link(root: Path) -> None:
    apply(root, [file("usr/lib/old"), symlink("lib", "usr/lib")], [file("lib/.wh..wh..opq"), file("lib/new")])
    assert names(root) == ["lib", "usr", "usr/lib", "usr/lib/new"]
    apply(root, [file("x"), file(".wh..wh..opq")])
    assert names(root) == ["x"]


def test_a_whiteout_spares_what_its_own_layer_brings(root: Path) -> None:
    apply(
        root,
        [file("a", b"old"), file("d/old"), file("b", b"old")],
        [file("a", b"new"), file(".wh.a"), directory("d"), file("d/new"), file(".wh.d"), file(".wh.b"), file("b")],
    )
    assert names(root) == ["a", "b", "d", "d/new"]
    assert (root / "a").read_bytes() == b"new"


def test_bookkeeping_of_aufs_is_left_out(root: Path) -> None:
    apply(root, [file("x")], [directory(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs")])
    assert names(root) == ["x"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh.", ".wh.d/x"])
def test_a_malformed_whiteout_is_refused(root: Path, name: str) -> None:
    with pytest.raises(EntryRefused, match="malformed whiteout"):
        apply(root, [file("d/x")], [file(name)])
    assert names(root) == ["d", "d/x"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (item("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3), "device nodes .character device"),
        (item("sda", tarfile.BLKTYPE, devmajor=8), "device nodes .block device"),
        (item("whiteout", tarfile.CHRTYPE), "device nodes"),
        (file("../escape"), "upwards"),
        (file("a/../../escape"), "upwards"),
        (file("/etc/passwd"), "absolute"),
        (file("."), "the root is a file"),
        (symlink("./", "x"), "the root is a symbolic link"),
        (symlink("empty", ""), "a link to nowhere"),
        (symlink("long", "x" * 5000), "a link to nowhere"),
        (file("owned", uid=2**32 - 1), "cannot exist"),
        (file("owned", gid=2**40), "cannot exist"),
        (file("owned", uid=-1), "cannot exist"),
    ],
)  # fmt: skip
def test_what_no_honest_layer_has_is_refused(
    root: Path, tmp_path: Path, entry: tuple[tarfile.TarInfo, bytes], reason: str
) -> None:
    with pytest.raises(EntryRefused, match=reason):
        apply(root, [entry])
    assert names(tmp_path) == ["root"]


def test_a_name_too_long_for_the_file_system_is_an_error_of_the_system(root: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        apply(root, [file("x" * 300)])


def test_sizes_and_numbers_are_bounded(root: Path) -> None:
    with pytest.raises(LimitExceeded, match="more than 3 entries") as caught:
        apply(root, [file("a"), file("b")], [file("c"), file("d")], max_entries=3)
    assert caught.value.code == "image-too-large"
    with pytest.raises(LimitExceeded, match="larger than 1 MiB") as caught:
        apply(root, [file("a", bytes(600_000))], [file("big", bytes(600_000))], max_bytes=1 << 20)
    assert caught.value.code == "image-too-large"
    assert not (root / "big").exists()
    budget = Budget(100, 1, "test")
    budget.spend_stream(100)
    with pytest.raises(LimitExceeded):
        budget.spend_stream(1)


def test_a_sparse_file_is_measured_by_its_whole_size_and_takes_no_room(root: Path) -> None:
    info, content = file("sparse", b"abc")
    info.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "sparse",
        "GNU.sparse.size": str(1 << 30), "GNU.sparse.map": "500000000,3",
    }  # fmt: skip
    with pytest.raises(LimitExceeded):
        apply(root, [(info, content)], max_bytes=1 << 20)
    apply(root, [(info, content)])
    found = (root / "sparse").stat()
    assert (found.st_size, found.st_blocks * 512 < 1 << 20) == (1 << 30, True)
    with (root / "sparse").open("rb") as opened:
        assert (opened.seek(500_000_000), opened.read(4)) == (500_000_000, b"abc\0")


component = st.sampled_from(["a", "b", ".wh.a", ".wh.b", ".wh..wh..opq", "..", ".", "", "/"])
path = st.lists(component, min_size=1, max_size=4).map("/".join)
kind = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
entries = st.lists(st.tuples(path, kind, path), max_size=8)


@settings(max_examples=120, deadline=None)
@given(st.lists(entries, min_size=1, max_size=3))
def test_whatever_a_layer_holds_nothing_outside_is_touched(
    tmp_path_factory: pytest.TempPathFactory, layers: list[list[tuple[str, bytes, str]]]
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "a").mkdir()
    (outside / "a/b").write_bytes(b"kept")
    root = outside / "root"
    root.mkdir()
    for layer in layers:
        try:
            apply(root, [item(name, k, linkname=f"{target}/../a") for name, k, target in layer])
        except EntryRefused:
            continue
    assert [p.name for p in sorted(outside.iterdir())] == ["a", "root"]
    assert [p.name for p in (outside / "a").iterdir()] == ["b"]
    assert ((outside / "a/b").read_bytes(), (outside / "a/b").stat().st_nlink) == (b"kept", 1)
    assert not list(root.rglob(".wh.*"))
