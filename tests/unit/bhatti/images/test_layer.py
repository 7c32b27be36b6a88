import subprocess
from pathlib import Path

import pytest
from tests.unit.bhatti.images.conftest import debugfs

from bhatti.errors import OutOfSpace
from bhatti.images.layer import make_layer


@pytest.mark.parametrize("size_mib", [64, 1024, 65_536])
def test_a_layer_costs_nothing_until_it_is_written(tmp_path: Path, size_mib: int) -> None:
    image = tmp_path / "layer.ext4"
    make_layer(image, size_mib)
    assert image.stat().st_size == size_mib << 20
    assert image.stat().st_blocks * 512 < 2 << 20


def test_a_layer_has_a_journal_and_nothing_for_the_guest_to_initialise(tmp_path: Path) -> None:
    image = tmp_path / "layer.ext4"
    make_layer(image, 1024)
    features = next(line for line in debugfs(image, "stats").splitlines() if "features:" in line)
    assert "has_journal" in features
    done = subprocess.run(["dumpe2fs", image], capture_output=True, text=True, check=True)
    groups = [line for line in done.stdout.splitlines() if line.startswith("Group ") and "csum" in line]
    assert len(groups) == 8
    assert all("ITABLE_ZEROED" in group for group in groups)


def test_a_tiny_layer_is_made_as_large_as_a_file_system_must_be(tmp_path: Path) -> None:
    make_layer(tmp_path / "layer.ext4", 1)
    assert (tmp_path / "layer.ext4").stat().st_size == 64 << 20
    debugfs(tmp_path / "layer.ext4", "ls /")


@pytest.mark.root
def test_a_full_disk_is_told_and_nothing_is_left(tiny_disk: Path) -> None:
    (tiny_disk / "other").write_bytes(bytes(1020 << 10))
    with pytest.raises(OutOfSpace):
        make_layer(tiny_disk / "layer.ext4", 1024)
    assert [path.name for path in tiny_disk.iterdir()] == ["other"]
