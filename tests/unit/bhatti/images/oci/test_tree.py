import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.images.oci.tree import MAX_DEPTH, EntryRefused, Place, Tree, split_name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def tree(root: Path) -> Iterator[Tree]:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with Tree(root) as tree:
        yield tree
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def place(tree: Tree, name: str, *, create: bool = True) -> Place | None:
    return tree.place(split_name(name.encode()), create=create)


def write(tree: Tree, name: str, content: bytes = b"new") -> None:
    where = place(tree, name)
    assert where is not None
    descriptor = os.open(where.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=where.parent)
    os.write(descriptor, content)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("a/b", ["a", "b"]), ("./a//b/", ["a", "b"]), (".", []), ("./", []), ("/", []), ("...", ["..."])],
)
def test_names_are_taken_apart(name: str, parts: list[str]) -> None:
    assert split_name(name.encode()) == [part.encode() for part in parts]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "absolute"),
        ("//x", "absolute"),
        ("..", "upwards"),
        ("a/../b", "upwards"),
        ("a/..", "upwards"),
        ("", "without a name"),
        ("a\0b", "no path"),
        ("a/" * 2048 + "a", "no path"),
        ("a/" * MAX_DEPTH + "a", "deep"),
    ],
)
def test_names_that_no_honest_archive_has_are_refused(name: str, reason: str) -> None:
    with pytest.raises(EntryRefused, match=reason):
        split_name(name.encode())


@given(st.binary(max_size=60))
def test_any_name_stays_below_or_is_refused(name: bytes) -> None:
    try:
        parts = split_name(name)
    except EntryRefused:
        return
    assert all(part not in (b"", b".", b"..") and b"/" not in part for part in parts)


def test_missing_directories_are_made_only_when_asked(tree: Tree, root: Path) -> None:
    assert place(tree, "a/b/c", create=False) is None
    assert not (root / "a").exists()
    write(tree, "a/b/c")
    assert (root / "a/b/c").read_bytes() == b"new"
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o755


def test_links_mean_what_they_will_mean_in_the_guest(tree: Tree, root: Path, tmp_path: Path) -> None:
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    (root / "abs").symlink_to("/usr/lib")
    (root / "usr/up").symlink_to("../../../../../usr/./lib")
    (root / "chain").symlink_to("abs")
    for number, way in enumerate(["lib", "abs", "usr/up", "chain", "lib/../lib"]):
        if ".." not in way:
            write(tree, f"{way}/file{number}")
    assert sorted(path.name for path in (root / "usr/lib").iterdir()) == ["file0", "file1", "file2", "file3"]
    found = place(tree, "chain/file0")
    assert found is not None
    assert found.path == b"usr/lib/file0"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_a_link_out_of_the_root_leads_to_its_own_place_within(tree: Tree, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "out").symlink_to(outside)
    (root / "up").symlink_to("../outside")
    write(tree, "out/escaped")
    write(tree, "up/escaped")
    assert list(outside.iterdir()) == []
    assert (root / str(outside).lstrip("/") / "escaped").read_bytes() == b"new"
    assert (root / "outside/escaped").read_bytes() == b"new"


def test_a_link_whose_target_is_missing_makes_it(tree: Tree, root: Path) -> None:
    (root / "var").symlink_to("data/var")
    write(tree, "var/log/x")
    assert (root / "data/var/log/x").exists()


def test_a_loop_of_links_is_refused(tree: Tree, root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(EntryRefused, match="loop"):
        place(tree, "a/x")


def test_links_that_multiply_a_path_are_refused(tree: Tree, root: Path) -> None:
    deep = "/".join("d" * 200)
    (root / "deep").symlink_to(deep)
    write(tree, "deep/x")
    (root / deep / "again").symlink_to("/".join("e" * 200))
    with pytest.raises(EntryRefused, match="too many directories"):
        place(tree, "deep/again/x")


def test_a_file_is_no_directory(tree: Tree, root: Path) -> None:
    (root / "file").write_bytes(b"")
    with pytest.raises(EntryRefused, match="file: it is needed as a directory and is none"):
        place(tree, "file/x")


def test_removing_a_link_leaves_its_target(tree: Tree, root: Path) -> None:
    (root / "dir").mkdir()
    (root / "dir/kept").write_bytes(b"")
    (root / "link").symlink_to("dir")
    link = place(tree, "link")
    assert link is not None
    tree.remove(link)
    assert sorted(path.name for path in root.rglob("*")) == ["dir", "kept"]


def test_a_way_leads_elsewhere_after_its_link_was_replaced(tree: Tree, root: Path) -> None:
    (root / "one").mkdir()
    (root / "two").mkdir()
    (root / "way").symlink_to("one")
    write(tree, "way/x")
    way = place(tree, "way")
    assert way is not None
    tree.remove(way)
    (root / "way").symlink_to("two")
    write(tree, "way/x")
    assert ((root / "one/x").exists(), (root / "two/x").exists()) == (True, True)


def test_removing_spares_what_is_to_be_kept(tree: Tree, root: Path) -> None:
    for name in ("d/old", "d/sub/old", "d/sub/new", "d/gone/old"):
        write(tree, name)
    found = place(tree, "d")
    assert found is not None
    tree.remove(found, keep={b"d/sub/new"})
    assert sorted(str(p.relative_to(root)) for p in root.rglob("*")) == ["d", "d/sub", "d/sub/new"]
    tree.remove(found)
    assert list(root.iterdir()) == []


def test_removing_nothing_and_the_root_does_nothing(tree: Tree, root: Path) -> None:
    write(tree, "x")
    for name in ("missing", "."):
        found = place(tree, name)
        assert found is not None
        tree.remove(found)
    assert [path.name for path in root.iterdir()] == ["x"]
    tree.clear(Place(place(tree, "x").parent, b"", b""))  # type: ignore[union-attr]
    assert list(root.iterdir()) == []


def test_times_of_directories_are_set_at_the_end(tree: Tree, root: Path) -> None:
    for name, time in (("a", 10), ("a/b", 20), ("gone", 30), ("file", 40)):
        found = place(tree, name)
        assert found is not None
        os.mkdir(found.name, dir_fd=found.parent)
        tree.note_time(found, time * 10**9)
    write(tree, "a/b/implied/f")
    for name in ("gone", "file"):
        (root / name).rmdir()
    (root / "file").write_bytes(b"")
    tree.set_times()
    times = {name: (root / name).stat().st_mtime for name in ("a", "a/b", "a/b/implied")}
    assert times == {"a": 10, "a/b": 20, "a/b/implied": 0}
    assert (root / "file").stat().st_mtime > 40


def test_many_directories_do_not_use_up_descriptors(tree: Tree, root: Path) -> None:
    for number in range(2000):
        write(tree, f"{number}/x")
    assert len(os.listdir("/proc/self/fd")) < 200  # noqa: PTH208
    assert len(list(root.iterdir())) == 2000
