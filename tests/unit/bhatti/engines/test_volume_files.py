import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.bhatti.images.conftest import debugfs

from bhatti.engines.volume_files import DRAFT, VolumeFiles
from bhatti.errors import Conflict, CorruptData, NotFound, OutOfSpace

pytestmark = pytest.mark.anyio


@pytest.fixture
def keeper(tmp_path: Path) -> VolumeFiles:
    return VolumeFiles(tmp_path / "volumes")


def names(keeper: VolumeFiles) -> list[str]:
    return sorted(path.name for path in keeper.directory.iterdir())


def put(keeper: VolumeFiles, name: str, content: bytes) -> None:
    source = keeper.directory.parent / "source"
    source.write_bytes(content)
    subprocess.run(["debugfs", "-w", "-R", f"write {source} kept", keeper.path(name)], check=True, capture_output=True)


async def test_one_is_made_measured_and_removed(keeper: VolumeFiles) -> None:
    assert (await keeper.use()).used_mib == {}
    await keeper.create("data", 64)
    assert names(keeper) == ["data.ext4"]
    assert await keeper.size_mib("data") == 64
    assert keeper.find("data") == keeper.path("data")
    use = await keeper.use()
    assert use.used_mib == {"data": 0}
    assert use.free_mib > 0
    await keeper.remove("data")
    assert names(keeper) == []


async def test_a_taken_name_is_a_conflict_and_leaves_what_is_there(keeper: VolumeFiles) -> None:
    await keeper.create("data", 64)
    await keeper.create("other", 1)
    for call in (keeper.create("data", 1), keeper.clone("other", "data")):
        with pytest.raises(Conflict) as caught:
            await call
        assert caught.value.code == "volume-exists"
    assert await keeper.size_mib("data") == 64
    assert names(keeper) == ["data.ext4", "other.ext4"]


async def test_one_that_is_not_there_is_not_found(keeper: VolumeFiles) -> None:
    for call in (keeper.remove("a"), keeper.resize("a", 2), keeper.clone("a", "b"), keeper.size_mib("a")):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.code == "volume-not-found"


async def test_growing_and_cloning_keep_what_is_in_it(keeper: VolumeFiles) -> None:
    await keeper.create("data", 64)
    put(keeper, "data", b"kept")
    await keeper.clone("data", "copy")
    await keeper.resize("data", 256)
    assert (await keeper.size_mib("data"), await keeper.size_mib("copy")) == (256, 64)
    for name in ("data", "copy"):
        assert debugfs(keeper.path(name), "cat /kept") == "kept"
    assert names(keeper) == ["copy.ext4", "data.ext4"]
    assert oct(keeper.path("copy").stat().st_mode & 0o777) == "0o600"


async def test_a_damaged_one_is_neither_found_grown_nor_cloned(keeper: VolumeFiles) -> None:
    await keeper.create("data", 64)
    keeper.path("data").write_bytes(bytes(4096))
    for call in (keeper.resize("data", 128), keeper.clone("data", "copy")):
        with pytest.raises(CorruptData) as caught:
            await call
        assert caught.value.code == "volume-corrupt"
    with pytest.raises(CorruptData):
        keeper.find("data")
    assert keeper.path("data").read_bytes() == bytes(4096)
    assert names(keeper) == ["data.ext4"]


async def test_what_a_killed_daemon_was_making_is_swept_and_nothing_else(keeper: VolumeFiles) -> None:
    await keeper.sweep()  # before there is a directory
    await keeper.create("data", 1)
    (keeper.directory / f"{DRAFT}half").write_bytes(b"half")
    await keeper.sweep()
    assert names(keeper) == ["data.ext4"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", small], check=True)
    yield small
    subprocess.run(["umount", small], check=True)


async def test_a_full_disk_leaves_what_was_there(small_disk: Path) -> None:
    keeper = VolumeFiles(small_disk / "volumes")
    await keeper.create("data", 64)
    put(keeper, "data", os.urandom(1 << 20))
    (keeper.directory.parent / "source").unlink()
    (keeper.directory.parent / "filler").write_bytes(bytes(500 << 10))
    for call in (keeper.clone("data", "copy"), keeper.resize("data", 128)):
        with pytest.raises(OutOfSpace):
            await call
    assert names(keeper) == ["data.ext4"]
    assert await keeper.size_mib("data") == 64
    keeper.find("data")
