import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhatti.engines.docker.archive import tar_pieces
from bhatti.engines.docker.ext4 import NotReadable
from bhatti.images.ext4 import make_ext4


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/tool").write_bytes(os.urandom(100_000))
    (tree / "usr/bin/tool").chmod(0o4755)
    os.link(tree / "usr/bin/tool", tree / "usr/bin/same")
    (tree / "bin").symlink_to("usr/bin")
    (tree / ("long" * 60)).write_text("a name of 240 bytes")
    (tree / "tmp").mkdir()
    (tree / "tmp").chmod(0o1777)
    return tree


def image_of(tree: Path) -> Path:
    image = tree.with_name("image.ext4")
    make_ext4(image, 16 << 20, label="test", source=tree, options=("-I", "256", "-O", "none,extent,filetype,ext_attr"))
    return image


def archive_of(image: Path) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(b"".join(tar_pieces(image))))


@pytest.mark.skipif(os.geteuid() != 0, reason="compares owners and capabilities, which needs root")
def test_the_systems_tar_finds_no_difference_from_the_tree(tree: Path, tmp_path: Path) -> None:
    os.mknod(tree / "null", 0o020666, os.makedev(1, 3))
    os.chown(tree / "usr/bin", 1000, 1000)
    os.setxattr(tree / "tmp", "user.note", b"\xff\x00binary")
    for path in tree.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)  # the image has whole seconds
    archive = tmp_path / "archive.tar"
    archive.write_bytes(b"".join(tar_pieces(image_of(tree))))
    compare = ["tar", "--compare", "--xattrs", "--xattrs-include=*", "--directory", str(tree), "--file", str(archive)]
    done = subprocess.run(compare, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_names_links_and_modes_are_kept(tree: Path) -> None:
    with archive_of(image_of(tree)) as archive:
        members = {member.name: member for member in archive}
    assert members.keys() == {str(path.relative_to(tree)) for path in tree.rglob("*")}
    assert members["usr/bin/tool"].mode == 0o4755 or members["usr/bin/same"].mode == 0o4755
    assert members["bin"].linkname == "usr/bin"
    assert members["tmp"].mode == 0o1777


def test_a_file_with_two_names_is_in_it_once(tree: Path) -> None:
    with archive_of(image_of(tree)) as archive:
        first, second = archive.getmember("usr/bin/same"), archive.getmember("usr/bin/tool")
        assert first.isreg()
        assert second.islnk()
        assert second.linkname == "usr/bin/same"
        content = archive.extractfile(second)
        assert content is not None
        assert content.read() == (tree / "usr/bin/tool").read_bytes()


def test_directories_come_before_what_is_in_them(tree: Path) -> None:
    with archive_of(image_of(tree)) as archive:
        names = [member.name for member in archive]
    assert names.index("usr") < names.index("usr/bin") < names.index("usr/bin/tool")


def test_what_belongs_to_the_file_system_alone_is_left_out(tree: Path) -> None:
    image = image_of(tree)
    listed = subprocess.run(["/usr/sbin/debugfs", "-R", "ls", image], capture_output=True, text=True, check=True)
    assert "lost+found" in listed.stdout
    with archive_of(image) as archive:
        assert "lost+found" not in archive.getnames()


def test_a_loop_of_directories_ends(tree: Path) -> None:
    (tree / "usr/bin/loop").mkdir()
    image = image_of(tree)
    request = "link /usr usr/bin/loop/again"
    subprocess.run(["/usr/sbin/debugfs", "-w", "-R", request, image], capture_output=True, check=True)
    with pytest.raises(NotReadable, match="nested"):
        list(tar_pieces(image))


def test_a_damaged_image_is_told(tree: Path) -> None:
    image = image_of(tree)
    os.truncate(image, 128 << 10)
    with pytest.raises(NotReadable, match="ends"):
        list(tar_pieces(image))


@settings(max_examples=20, deadline=None)
@given(size=st.integers(0, 3000))
def test_contents_of_any_size_keep_the_archive_aligned(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    tree = tmp_path_factory.mktemp("sized") / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(b"x" * size)
    (tree / "b").write_bytes(b"after")
    make_ext4(tree.with_name("image"), 1 << 20, label="test", source=tree, options=("-O", "none,extent,filetype"))
    with archive_of(tree.with_name("image")) as archive:
        assert [archive.getmember(name).size for name in ("a", "b")] == [size, 5]
