import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.bhatti.images.conftest import rewrite
from tests.unit.bhatti.images.guests import boot

from bhatti.errors import CorruptData, InvalidRequest, NotFound
from bhatti.images.config_drive import ConfigFile, ConfigVolume, GuestConfig, make_config_drive
from bhatti.images.layer import make_layer
from bhatti.images.store import Image, ImageStore

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def store(copied: Path) -> ImageStore:
    return ImageStore(copied)


def test_a_second_build_reuses_everything_in_a_moment(store: ImageStore) -> None:
    before = store.boot_files("base")
    events: list[str] = []
    image = store.build(progress=lambda stage, done, total: events.append(stage))
    assert events == []
    assert store.boot_files("base") == before
    assert store.list() == [image]


def test_an_image_is_described(store: ImageStore) -> None:
    image = store.build()
    assert isinstance(image, Image)
    assert image.name == "base"
    assert image.digest == f"sha256:{store.boot_files('base').digests['base']}"
    assert 100 << 20 < image.stored_bytes <= image.size_bytes < 1 << 30
    assert "cloud-amd64" in image.kernel
    assert image.source.startswith("Debian ")
    assert image.created_at > 1e9


def test_boot_files_are_there_and_named_with_their_digests(store: ImageStore) -> None:
    files = store.boot_files("base")
    assert files.image == "base"
    for name in ("kernel", "initramfs", "agent", "base"):
        assert getattr(files, name).stat().st_size > 0
        assert len(bytes.fromhex(files.digests[name])) == 32
    store.verify("base")


def test_only_the_base_image_has_a_recipe(store: ImageStore) -> None:
    with pytest.raises(InvalidRequest):
        store.build("alpine")


@pytest.mark.parametrize("name", ["alpine", "../guest", "", "a/b"])
def test_an_image_that_is_not_there_is_told_with_the_way_to_build_it(store: ImageStore, name: str) -> None:
    for call in (store.boot_files, store.remove, store.verify):
        with pytest.raises(NotFound) as caught:
            call(name)
        assert caught.value.code == "image-not-found"
        assert "bhatti image build" in (caught.value.hint or "")


def test_an_empty_directory_has_no_images(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    assert store.list() == []
    with pytest.raises(NotFound):
        store.boot_files("base")
    assert not (tmp_path / "images").exists()


def flip(content: bytearray) -> None:
    content[len(content) // 2] ^= 1


@pytest.mark.parametrize("part", ["kernel", "initramfs", "agent", "base"])
def test_a_truncated_part_is_found_when_it_is_booted(store: ImageStore, part: str) -> None:
    path: Path = getattr(store.boot_files("base"), part)

    def cut(content: bytearray) -> None:
        del content[-4096:]

    rewrite(path, cut)
    with pytest.raises(CorruptData) as caught:
        store.boot_files("base")
    assert caught.value.code == "image-corrupt"
    assert str(path) in caught.value.message


@pytest.mark.parametrize("part", ["kernel", "initramfs", "agent", "base"])
def test_a_flipped_bit_is_found_by_verifying(store: ImageStore, part: str) -> None:
    rewrite(getattr(store.boot_files("base"), part), flip)
    store.boot_files("base")
    with pytest.raises(CorruptData, match="contents have changed"):
        store.verify("base")


@pytest.mark.parametrize("part", ["initramfs", "agent"])
def test_building_again_mends_what_is_damaged(store: ImageStore, part: str) -> None:
    before = store.boot_files("base")
    rewrite(getattr(before, part), flip)
    store.build()
    store.verify("base")
    assert store.boot_files("base").digests[part] == before.digests[part], "equal inputs give equal bytes"


def test_an_image_whose_root_is_gone_is_told_and_not_listed(store: ImageStore, copied: Path) -> None:
    subprocess.run(["rm", "-r", copied / "artefacts/root"], check=True)
    with pytest.raises(CorruptData) as caught:
        store.boot_files("base")
    assert caught.value.code == "image-corrupt"
    assert store.list() == []


def test_a_damaged_name_is_told(store: ImageStore, copied: Path) -> None:
    (copied / "names/base.json").unlink()
    (copied / "names/base.json").write_text("{}")
    with pytest.raises(CorruptData, match="record of image 'base'"):
        store.boot_files("base")


def test_a_removed_image_is_gone_and_its_space_is_freed_by_collecting(store: ImageStore, copied: Path) -> None:
    files = store.boot_files("base")
    store.remove("base")
    assert store.list() == []
    assert files.base.exists()
    stored = files.base.stat().st_blocks * 512
    assert store.collect(frozenset) >= stored
    assert not files.base.exists()
    assert files.kernel.exists(), "the parts that all images share stay"


def test_what_a_sleeping_sandbox_was_booted_from_is_kept(store: ImageStore) -> None:
    files = store.boot_files("base")
    store.remove("base")
    store.collect(lambda: {files.base})
    assert files.base.exists()


def test_collecting_frees_nothing_that_is_in_use(store: ImageStore) -> None:
    store.collect(frozenset)
    assert store.collect(frozenset) == 0
    store.verify("base")


def test_a_file_held_open_outlives_its_collection(store: ImageStore) -> None:
    files = store.boot_files("base")
    with files.base.open("rb") as machine:
        store.remove("base")
        store.collect(frozenset)
        assert len(machine.read(4096)) == 4096


@pytest.mark.vm
def test_the_images_boot_to_an_agent_that_tells_how_long_each_part_took(built: Path, tmp_path: Path) -> None:
    files = ImageStore(built).boot_files("base")
    config = GuestConfig(
        sandbox_id="abc",
        hostname="box",
        token="secret",
        volumes=(ConfigVolume(device="/dev/vde", mount="/data"),),
        files={"/home/lohar/.env": ConfigFile(content=b"A=1")},
    )
    make_config_drive(tmp_path / "config.ext4", config)
    make_layer(tmp_path / "layer.ext4", 256)
    make_layer(tmp_path / "volume.ext4", 64)
    drives = [files.base, files.agent, *(tmp_path / f"{name}.ext4" for name in ("config", "layer", "volume"))]
    *_, ready = boot(files, drives)
    parts = json.loads(ready.removeprefix("lohar: ready "))
    print(f"boot: {parts}")
    assert set(parts) == {"kernel", "initramfs", "mounts", "python", "network", "setup", "listen", "total"}
    assert parts["total"] == pytest.approx(sum(parts.values()) - parts["total"], abs=len(parts))


@pytest.mark.vm
def test_a_guest_without_its_volume_says_so_and_ends(built: Path, tmp_path: Path) -> None:
    files = ImageStore(built).boot_files("base")
    config = GuestConfig(
        sandbox_id="abc", hostname="box", token="secret", volumes=(ConfigVolume(device="/dev/vde", mount="/data"),)
    )
    make_config_drive(tmp_path / "config.ext4", config)
    make_layer(tmp_path / "layer.ext4", 256)
    drives = [files.base, files.agent, tmp_path / "config.ext4", tmp_path / "layer.ext4"]
    console = boot(files, drives)
    assert "lohar: boot failed: cannot mount /dev/vde (ext4) at /data" in "\n".join(console)


OLD_AND_NEW = """
import sys
from pathlib import Path
from bhatti.images.store import ImageStore
print(ImageStore(Path(sys.argv[1])).boot_files("base").digests["base"])
"""


def test_another_process_sees_the_same_images(store: ImageStore, copied: Path) -> None:
    done = subprocess.run([sys.executable, "-c", OLD_AND_NEW, copied], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == store.boot_files("base").digests["base"]
