import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from tests.dockerd import TINY, PrivateDocker, private_docker
from tests.unit.bhatti.images.oci.conftest import running_registry

from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.images import LABEL_DIGEST, Archive, DockerImages, environment
from bhatti.errors import CorruptData, EngineFailure, NotFound, OutOfSpace
from bhatti.images.ext4 import make_ext4
from bhatti.images.store import BootFiles, ImageStore

pytestmark = pytest.mark.anyio

DIGEST = "feedc0ffee" * 6 + "0000"
ANOTHER = "0" * 64


@pytest.fixture
def images(api: DockerApi, images_dir: Path) -> DockerImages:
    return DockerImages(api, ImageStore(images_dir), pull=True)


@pytest.fixture
def small(tmp_path: Path, images_dir: Path) -> BootFiles:
    """A root file system of a few files, as the image store would hand it out."""
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/os-release").write_text("ID=small\n")
    (tree / "data").write_bytes(os.urandom(1 << 20))
    make_ext4(tmp_path / "root.ext4", 8 << 20, label="small", source=tree, options=("-O", "none,extent,filetype"))
    boot = ImageStore(images_dir).boot_files("base")
    return replace(boot, base=tmp_path / "root.ext4", digests=boot.digests | {"base": DIGEST}, image="small")


@pytest.fixture
async def swept(api: DockerApi) -> AsyncIterator[None]:
    """Whatever a test imports under these digests is removed."""
    yield
    for digest in (DIGEST, ANOTHER):
        for image in await api.images(f"{LABEL_DIGEST}={digest}"):
            await api.remove_image(image.id)


@pytest.mark.usefixtures("swept")
async def test_an_image_of_ours_is_imported_once(images: DockerImages, api: DockerApi, small: BootFiles) -> None:
    first = await images.imported(small)
    small.base.unlink()  # proves that it is not read again
    assert await images.imported(small) == first
    assert (await api.image(f"bhatti-image:{DIGEST[:16]}")).id == first


@pytest.mark.usefixtures("swept")
async def test_one_that_was_removed_from_docker_is_imported_again_after_it_was_missed(
    images: DockerImages, api: DockerApi, small: BootFiles
) -> None:
    first = await images.imported(small)
    await api.remove_image(first)
    found = await images.again(TINY)  # whatever was missed: nothing is taken for granted any more
    assert found.id == (await api.image(TINY)).id
    second = await images.imported(small)
    assert [image.id for image in await api.images(f"{LABEL_DIGEST}={DIGEST}")] == [second]


@pytest.mark.usefixtures("swept")
async def test_many_at_once_import_it_once(images: DockerImages, api: DockerApi, small: BootFiles) -> None:
    found: list[str] = []

    async def find() -> None:
        found.append(await images.imported(small))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(find)
    assert len(set(found)) == 1
    assert len(await api.images(f"{LABEL_DIGEST}={DIGEST}")) == 1


async def test_a_damaged_image_is_told_and_leaves_nothing_in_docker(
    images: DockerImages, api: DockerApi, small: BootFiles
) -> None:
    os.truncate(small.base, 600 << 10)
    with pytest.raises(CorruptData) as caught:
        await images.imported(small)
    assert caught.value.code == "image-corrupt"
    assert "bhatti image build" in str(caught.value.hint)
    assert await api.images(f"{LABEL_DIGEST}={DIGEST}") == []


@pytest.fixture
def full_docker(tmp_path: Path) -> Iterator[PrivateDocker]:
    """A dockerd whose data lie on a disk of 24 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "small", disk], check=True)
    try:
        with private_docker(data=disk) as docker:
            yield docker
    finally:
        subprocess.run(["umount", disk], check=True)


async def test_a_full_disk_is_told_and_leaves_no_image(
    full_docker: PrivateDocker, small: BootFiles, tmp_path: Path
) -> None:
    (tmp_path / "tree/large").write_bytes(os.urandom(48 << 20))
    make_ext4(small.base, 64 << 20, label="large", source=tmp_path / "tree", options=("-O", "none,extent,filetype"))
    api = await DockerApi.connect(full_docker.socket)
    try:
        with pytest.raises(OutOfSpace) as caught:
            await DockerImages(api, ImageStore(tmp_path), pull=False).imported(small)
        assert await api.images(LABEL_DIGEST) == []
    finally:
        await api.aclose()
    assert "docker system df" in str(caught.value.hint)


async def test_an_image_of_dockers_is_found_with_its_environment(images: DockerImages, docker: PrivateDocker) -> None:
    docker.docker("container", "create", "--name", "changed", "--env", "LANGUAGE=de", TINY, "true")
    try:
        docker.docker("commit", "changed", "bhatti-changed")
        found = await images.find("bhatti-changed")
        assert found.env["LANGUAGE"] == "de"
        assert found.boot.agent.name == "agent.ext4"
    finally:
        docker.docker("container", "rm", "changed")
        docker.docker("image", "rm", "bhatti-changed")


async def test_an_image_that_is_nowhere_is_not_found(api: DockerApi, images_dir: Path) -> None:
    images = DockerImages(api, ImageStore(images_dir), pull=False)
    for name in ("no-such-image", "not a name at all", "UPPER/case"):
        with pytest.raises(NotFound) as caught:
            await images.find(name)
        assert caught.value.code == "image-not-found"
        assert "bhatti image build" in str(caught.value.hint)


async def test_a_registry_that_is_down_is_told(images: DockerImages) -> None:
    with pytest.raises(EngineFailure, match="could not be pulled") as caught:
        await images.find("127.0.0.1:9/nothing:latest")
    assert caught.value.code == "pull-failed"


async def test_an_image_that_is_not_here_is_pulled_from_its_registry(
    images: DockerImages, docker: PrivateDocker, api: DockerApi, tmp_path: Path
) -> None:
    with running_registry(tmp_path) as registry:
        name = f"{registry}/tools/tiny:1"
        docker.docker("tag", TINY, name)
        docker.docker("push", name)
        docker.docker("image", "rm", name)
        with pytest.raises(NotFound):
            await api.image(name)
        found = await images.find(name)
        assert (await api.image(name)).id == found.id
        docker.docker("image", "rm", name)
        with pytest.raises(NotFound) as caught:
            await images.find(f"{registry}/tools/nothing")
        assert caught.value.code == "image-not-found"


async def test_images_without_a_file_system_any_more_are_swept(
    api: DockerApi, small: BootFiles, images_dir: Path, tmp_path: Path
) -> None:
    store = ImageStore(tmp_path / "store")
    images = DockerImages(api, store, pull=False)
    await images.imported(small)
    other = DockerImages(api, ImageStore(images_dir), pull=False)
    await other.imported(replace(small, digests=small.digests | {"base": ANOTHER}))
    try:
        await images.sweep()
        assert await api.images(f"{LABEL_DIGEST}={DIGEST}") == []
        assert len(await api.images(f"{LABEL_DIGEST}={ANOTHER}")) == 1, "another store's image is not ours to remove"
    finally:
        await other.sweep()
    assert await api.images(f"{LABEL_DIGEST}={ANOTHER}") == []


async def test_without_images_of_ours_the_hint_says_how_to_make_them(api: DockerApi, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no image") as caught:
        await DockerImages(api, ImageStore(tmp_path), pull=False).find(TINY)
    assert "bhatti image build" in str(caught.value.hint)


async def test_an_archive_comes_in_large_batches(small: BootFiles) -> None:
    sizes = [len(batch) async for batch in Archive(small.base).pieces()]
    assert sum(sizes) % 512 == 0
    assert min(sizes[:-1]) >= 1 << 20


async def test_an_archive_that_breaks_off_keeps_the_reason(tmp_path: Path) -> None:
    shutil.copy("/dev/null", tmp_path / "empty")
    archive = Archive(tmp_path / "empty")
    with pytest.raises(CorruptData):
        await anext(archive.pieces())
    assert archive.failure is not None


def test_the_environment_of_an_image_is_a_mapping() -> None:
    assert environment(["A=1", "B=x=y", "C=", "broken"]) == {"A": "1", "B": "x=y", "C": ""}
    assert environment(None) == {}
