"""Real images for the tests of this folder: built once per machine, where the daemon keeps them."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bhatti import paths
from bhatti.images.artefacts import Artefact, ArtefactStore
from bhatti.images.guest_parts import GuestRecord, PartsBuilder
from bhatti.images.store import ImageStore

BUILD_TIMEOUT_S = 600
"""For a test that may be the first on this machine: the base image is a minute's download and installation."""


@pytest.fixture(scope="session")
def built() -> Path:
    """The images directory of this machine, with a base image in it."""
    if os.geteuid() != 0:
        pytest.skip("building the base image needs root")
    directory = Path(paths.images_dir())
    ImageStore(directory).build()
    return directory


@pytest.fixture(scope="session")
def parts(built: Path) -> GuestRecord:
    record = PartsBuilder(built, ArtefactStore(built)).read_record()
    assert record is not None
    return record


@pytest.fixture(scope="session")
def kernel(built: Path, parts: GuestRecord) -> Artefact:
    found = ArtefactStore(built).find("kernel", parts.kernel)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def runtime(built: Path, parts: GuestRecord) -> Artefact:
    found = ArtefactStore(built).find("runtime", parts.runtime)
    assert found is not None
    return found


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    """A directory of the test's own with the base image; files are shared with the machine's: replace, never write."""
    copy = share(built, tmp_path / "images")
    for name in (copy / "names").glob("*.json"):
        if name.stem != "base":  # whatever else is on this machine
            name.unlink()
    return copy


def share(source: Path, target: Path) -> Path:
    """Copy an images directory by linking its files, or, on another file system, by copying them sparsely."""
    done = subprocess.run(["cp", "-al", source, target], capture_output=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)
    return target


def rewrite(path: Path, change: Callable[[bytearray], None]) -> None:
    """Change a file of a shared directory, as a broken disk would: under its name, with its time, in a new inode."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    change(content)
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    directory = tmp_path / "tiny"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)


def debugfs(image: Path, *requests: str) -> str:
    """Return what debugfs says about an ext4 image, after e2fsck has found nothing wrong with it."""
    checked = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    said = [
        subprocess.run(["debugfs", "-R", request, image], capture_output=True, text=True, check=True).stdout
        for request in requests
    ]
    return "".join(said)
