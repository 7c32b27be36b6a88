import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bhatti.engines.docker.archive import walk
from bhatti.engines.docker.ext4 import ROOT_INODE, Ext4, NotReadable
from bhatti.images.ext4 import make_ext4

MakeImage = Callable[..., Path]

OPTIONS = {
    "ours": ("-b", "4096", "-O", "none,extent,ext_attr,filetype,dir_index,flex_bg,extra_isize", "-I", "256"),
    "everything": ("-b", "4096", "-O", "extent,64bit,metadata_csum,metadata_csum_seed,has_journal,huge_file,large_dir"),
    "small": ("-b", "1024", "-O", "none,extent,filetype", "-I", "128"),
}


@pytest.fixture
def make(tmp_path: Path) -> MakeImage:
    def make(tree: Path, *options: str, size: int = 32 << 20) -> Path:
        image = tmp_path / "image.ext4"
        make_ext4(image, size, label="test", source=tree, options=options or OPTIONS["ours"])
        return image

    return make


def read(image: Path, name: bytes) -> bytes:
    with Ext4(image) as opened:
        return b"".join(opened.content(dict(walk(opened))[name]))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "deep/down").mkdir(parents=True)
    (tree / "deep/down/file").write_bytes(b"content")
    (tree / "empty").touch()
    (tree / "big").write_bytes(os.urandom(3 << 20))
    (tree / "ü \n name").write_text("odd")
    (tree / "short").symlink_to("deep/down/file")
    (tree / "long").symlink_to("x" * 200)
    os.link(tree / "empty", tree / "twin")
    with (tree / "holes").open("wb") as file:
        file.write(b"begin")
        file.seek(2 << 20)
        file.write(b"end")
        file.truncate(3 << 20)
    return tree


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_everything_put_in_comes_out(tree: Path, make: MakeImage, options: tuple[str, ...]) -> None:
    with Ext4(make(tree, *options)) as image:
        found = dict(walk(image))
        expected = {os.fsencode(path.relative_to(tree)): path for path in tree.rglob("*")}
        assert found.keys() == expected.keys()
        for name, path in expected.items():
            inode, status = found[name], path.lstat()
            assert (inode.mode, inode.uid, inode.gid) == (status.st_mode, status.st_uid, status.st_gid)
            if path.is_symlink():
                assert image.link_target(inode) == os.fsencode(path.readlink())
            elif path.is_file():
                assert b"".join(image.content(inode)) == path.read_bytes()
                assert inode.links == status.st_nlink
        assert found[b"empty"].number == found[b"twin"].number


def test_a_file_of_many_extents_is_read_whole(tmp_path: Path, make: MakeImage) -> None:
    """Every second block is a hole: more extents than an inode holds, so that there is a tree of them."""
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree/comb").open("wb") as file:
        for number in range(2000):
            file.seek(number * 8192)
            file.write(b"%08d" % number)
    expected = (tmp_path / "tree/comb").read_bytes()
    assert read(make(tmp_path / "tree"), b"comb") == expected


def test_a_directory_of_thousands_is_listed_whole(tmp_path: Path, make: MakeImage) -> None:
    (tmp_path / "tree/many").mkdir(parents=True)
    for number in range(3000):
        (tmp_path / f"tree/many/a-rather-long-name-{number:05}").touch()
    with Ext4(make(tmp_path / "tree", *OPTIONS["ours"], "-N", "4000")) as image:
        names = [name for name, _ in walk(image)]
    assert len(names) == 3001
    assert names == sorted(names)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes and capabilities, which needs root")
def test_devices_special_bits_owners_and_capabilities_are_kept(tmp_path: Path, make: MakeImage) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mknod(tree / "null", 0o020666, os.makedev(1, 3))
    os.mknod(tree / "disk", 0o060660, os.makedev(259, 70_000))
    (tree / "sudo").touch()
    os.chown(tree / "sudo", 70_000, 80_000)
    (tree / "sudo").chmod(0o4755)
    (tree / "tool").touch()
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(tree / "tool", "security.capability", capability)
    os.setxattr(tree / "tool", "user.large", b"x" * 300)
    with Ext4(make(tree)) as image:
        found = dict(walk(image))
        assert found[b"null"].device == (1, 3)
        assert found[b"disk"].device == (259, 70_000)
        assert found[b"sudo"].mode & 0o7777 == 0o4755
        assert (found[b"sudo"].uid, found[b"sudo"].gid) == (70_000, 80_000)
        assert image.xattrs(found[b"tool"]) == {"security.capability": capability, "user.large": b"x" * 300}
        assert image.xattrs(found[b"sudo"]) == {}


def test_what_it_cannot_read_is_refused(tmp_path: Path, make: MakeImage) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for content, words in ((b"", "empty"), (b"x" * 500, "ends"), (bytes(1 << 20), "no ext4 superblock")):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(NotReadable, match=words), Ext4(tmp_path / "bad"):
            pass
    with pytest.raises(NotReadable, match="not understood"), Ext4(make(tree, "-O", "inline_data")):
        pass


def test_old_files_without_extents_are_refused(tree: Path, make: MakeImage) -> None:
    image = make(tree, "-O", "none,filetype")
    with pytest.raises(NotReadable, match="not understood"):
        read(image, b"deep/down/file")


def test_an_image_that_was_not_unmounted_is_refused(tree: Path, make: MakeImage) -> None:
    image = make(tree, *OPTIONS["everything"])
    subprocess.run(["/usr/sbin/debugfs", "-w", "-R", "feature needs_recovery", image], check=True, capture_output=True)
    with pytest.raises(NotReadable, match="not unmounted"), Ext4(image):
        pass


def test_inodes_that_do_not_exist_are_refused(tree: Path, make: MakeImage) -> None:
    with Ext4(make(tree)) as image:
        for number in (0, 1 << 31):
            with pytest.raises(NotReadable, match="does not exist"):
                image.inode(number)
        assert image.inode(ROOT_INODE).links >= 3


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("pristine")
    (folder / "tree/sub").mkdir(parents=True)
    (folder / "tree/sub/file").write_bytes(b"content" * 1000)
    (folder / "tree/link").symlink_to("x" * 100)
    make_ext4(folder / "image", 1 << 20, label="test", source=folder / "tree", options=OPTIONS["small"])
    return (folder / "image").read_bytes()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_image_is_read_or_refused_and_nothing_else(
    pristine: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    """Any bytes anywhere in the metadata: it ends, within bounds, with contents or with `NotReadable`."""
    damaged = bytearray(pristine)
    # Superblock, descriptors, bitmaps, inodes and directories all lie in the first 128 KiB.
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(1024, 128 << 10))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged"
    path.write_bytes(damaged[: data.draw(st.sampled_from([len(damaged), len(damaged) // 2, 4096]))])
    with contextlib.suppress(NotReadable), Ext4(path) as image:
        for number, (_, inode) in enumerate(walk(image)):
            for size, _ in enumerate(image.content(inode)):
                if size > 100:
                    break
            image.link_target(inode)
            image.xattrs(inode)
            if number > 1000:
                break
