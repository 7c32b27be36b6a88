import subprocess
from pathlib import Path

import pytest
from tests.unit.bhatti.images.conftest import debugfs

from bhatti.errors import CorruptData, OutOfSpace
from bhatti.images.volume import check_volume, grow_volume, make_volume


@pytest.mark.parametrize("size_mib", [1, 63, 64, 1024])
def test_a_volume_is_the_users_and_takes_next_to_nothing(tmp_path: Path, size_mib: int) -> None:
    path = tmp_path / "data.ext4"
    make_volume(path, size_mib)
    assert path.stat().st_size == size_mib << 20
    assert path.stat().st_blocks * 512 < 1 << 20
    shown = debugfs(path, "stat /", "stats")
    assert "User:  1000   Group:  1000" in shown
    assert ("has_journal" in shown) == (size_mib >= 64)
    check_volume(path)


def test_the_largest_is_made_in_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "data.ext4"
    make_volume(path, 1 << 20)
    assert path.stat().st_size == 1 << 40
    assert path.stat().st_blocks * 512 < 32 << 20
    check_volume(path)


@pytest.mark.parametrize(("before", "after"), [(1, 32), (1, 64), (64, 1024)])
def test_a_grown_volume_has_what_was_in_it_and_more_space(tmp_path: Path, before: int, after: int) -> None:
    path, kept = tmp_path / "data.ext4", tmp_path / "kept"
    kept.write_bytes(b"kept" * 1000)
    make_volume(path, before)
    debugfs_write(path, f"write {kept} kept")
    grow_volume(path, after)
    assert path.stat().st_size == after << 20
    shown = debugfs(path, "cat /kept", "stats")
    assert shown.startswith("kept" * 1000)
    assert ("has_journal" in shown) == (after >= 64)
    assert int(shown.split("Block count:")[1].split()[0]) * 4096 == after << 20


def debugfs_write(path: Path, request: str) -> None:
    subprocess.run(["debugfs", "-w", "-R", request, path], check=True, capture_output=True)


def test_what_is_no_volume_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data.ext4"
    for content in (b"", bytes(1 << 20), b"x" * (1 << 20)):
        path.write_bytes(content)
        for use in (check_volume, lambda found: grow_volume(found, 2)):
            with pytest.raises(CorruptData) as caught:
                use(path)
            assert caught.value.code == "volume-corrupt"
            assert str(path) in str(caught.value.hint)


def test_a_volume_that_was_cut_or_whose_superblock_was_changed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data.ext4"
    make_volume(path, 64)
    with path.open("r+b") as file:
        file.truncate(32 << 20)
    with pytest.raises(CorruptData, match="33554432 of 67108864 bytes"):
        check_volume(path)
    make_volume(path, 64)
    with path.open("r+b") as file:
        file.seek(1024 + 4)
        file.write(b"\xff")
    with pytest.raises(CorruptData):
        check_volume(path)


def test_a_full_disk_leaves_no_file(tiny_disk: Path) -> None:
    (tiny_disk / "much").write_bytes(bytes(1000 << 10))
    path = tiny_disk / "data.ext4"
    with pytest.raises(OutOfSpace):
        make_volume(path, 1 << 20)
    assert not path.exists()
