import errno
import os
from pathlib import Path

import pytest
from tests.unit.bhatti.images.conftest import debugfs

from bhatti.errors import EngineFailure, OutOfSpace
from bhatti.images.ext4 import make_ext4, make_reproducible_ext4, make_sparse


def test_a_tree_becomes_a_file_system_without_mounting(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep/file").write_bytes(b"content")
    (source / "link").symlink_to("deep/file")
    image = tmp_path / "image.ext4"
    make_ext4(image, 1 << 20, label="test", source=source)
    assert debugfs(image, "cat /deep/file") == "content"
    assert 'Fast link dest: "deep/file"' in debugfs(image, "stat /link")


def test_equal_trees_give_equal_images_at_any_time(tmp_path: Path) -> None:
    images: list[bytes] = []
    for name in ("one", "two"):
        source = tmp_path / name
        (source / "deep/er").mkdir(parents=True)
        for number in range(50):
            (source / "deep" / f"f{number}").write_bytes(b"x" * number * 100)
        os.utime(source / "deep/f7", (len(images), len(images)))
        image = tmp_path / f"{name}.ext4"
        make_reproducible_ext4(image, 4 << 20, label="test", source=source)
        images.append(image.read_bytes())
        assert len(debugfs(image, "cat /deep/f49")) == 4900
    assert images[0] == images[1]


def test_a_tree_that_does_not_fit_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(2 << 20))
    image = tmp_path / "image.ext4"
    with pytest.raises((EngineFailure, OutOfSpace), match="mke2fs"):
        make_ext4(image, 1 << 20, label="test", source=source)
    assert not image.exists()


@pytest.mark.root
def test_a_full_disk_is_told_and_nothing_is_left(tiny_disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(4 << 20))
    with pytest.raises(OutOfSpace) as caught:
        make_ext4(tiny_disk / "image.ext4", 16 << 20, label="test", source=source)
    assert caught.value.hint
    assert list(tiny_disk.iterdir()) == []


def test_a_sparse_file_takes_no_space(tmp_path: Path) -> None:
    make_sparse(tmp_path / "large", 1 << 40)
    assert (tmp_path / "large").stat().st_size == 1 << 40
    assert (tmp_path / "large").stat().st_blocks == 0


def test_a_file_larger_than_the_file_system_allows_is_out_of_space(tmp_path: Path) -> None:
    with pytest.raises(OutOfSpace, match="cannot write"):
        make_sparse(tmp_path / "large", (1 << 63) - 1)


def test_other_failures_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        make_sparse(tmp_path / "absent/file", 1)
    assert caught.value.errno == errno.ENOENT
