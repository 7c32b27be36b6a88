import re
import subprocess
from pathlib import Path

import pytest
from tests.unit.bhatti.images.guests import boot

from bhatti.images import initramfs
from bhatti.images.artefacts import Artefact
from bhatti.images.config_drive import GuestConfig, make_config_drive
from bhatti.images.initramfs import build_initramfs, init_script, modules_dep
from bhatti.images.layer import make_layer
from bhatti.images.modules import Module
from bhatti.images.store import ImageStore


def test_each_line_of_the_module_table_ends_with_what_is_loaded_first() -> None:
    order = [
        Module("ring", Path("ring.ko"), ()),
        Module("virtio", Path("virtio.ko"), ("ring",)),
        Module("blk", Path("virtio-blk.ko"), ("virtio",)),
    ]
    assert modules_dep(order) == "ring.ko:\nvirtio.ko: ring.ko\nvirtio-blk.ko: virtio.ko ring.ko\n"


def test_the_script_is_one_that_busybox_accepts() -> None:
    done = subprocess.run(["busybox", "sh", "-n"], input=init_script(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_every_program_that_the_script_calls_is_in_the_archive() -> None:
    called = set(re.findall(r"^\s*(?:exec )?([a-z_]+) ", init_script().decode(), flags=re.MULTILINE))
    external = called & {
        "mkdir",
        "modprobe",
        "mount",
        "sleep",
        "switch_root",
        "cat",
        "grep",
        "cp",
        "ln",
        "mv",
        "umount",
    }
    assert external == set(initramfs.APPLETS) - {"sh"}


def test_every_table_that_the_script_mounts_is_in_the_archive() -> None:
    assert set(re.findall(r"mount -a -T /etc/(\w+)", init_script().decode())) == {"early", "drives", "root", "late"}


@pytest.mark.timeout(600)
def test_the_archive_has_busybox_the_modules_and_the_script_and_is_reproducible(
    kernel: Artefact, tmp_path: Path
) -> None:
    release = kernel.manifest.details["release"]
    modules, busybox = kernel.directory / "modules" / release, (kernel.directory / "busybox").read_bytes()
    archive = build_initramfs(modules, busybox)
    assert archive == build_initramfs(modules, busybox)
    subprocess.run(["busybox", "cpio", "-id"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "init").read_bytes() == init_script()
    assert (tmp_path / "bin/mount").readlink() == Path("busybox")
    installed = tmp_path / "lib/modules" / release
    files = {path.name for path in installed.glob("*.ko")}
    assert {"virtio_pci.ko", "virtio_blk.ko", "virtio_net.ko", "overlay.ko"} <= files
    table = (installed / "modules.dep").read_text()
    assert set(table.replace(":", " ").split()) == files
    assert b"Module signature appended" not in archive
    listed = subprocess.run([tmp_path / "bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout
    assert set(initramfs.APPLETS) <= set(listed.split())


@pytest.mark.vm
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("missing", "reason"),
    [(3, "drive vdd has not appeared"), (0, "cannot mount the image or its layer")],
    ids=["no layer", "no image"],
)
def test_a_guest_that_cannot_stack_its_drives_says_why_and_ends(
    built: Path, tmp_path: Path, missing: int, reason: str
) -> None:
    files = ImageStore(built).boot_files("base")
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(1 << 20))
    make_layer(tmp_path / "layer.ext4", 64)
    make_config_drive(tmp_path / "config.ext4", GuestConfig(sandbox_id="a", hostname="b", token="c"))
    drives = [files.base, files.agent, tmp_path / "config.ext4", tmp_path / "layer.ext4"]
    if missing:
        del drives[missing]
    else:
        drives[0] = blank
    # What else is not as it should be does not get in the way of the reason.
    console = "\n".join(boot(files, drives, words="bhatti.modules=nonsense,virtio_rng,vmw_vsock_virtio_transport"))
    assert re.findall("bhatti: no module .*", console) == ["bhatti: no module nonsense"]
    assert f"bhatti: boot failed: {reason}" in console
    assert "Kernel panic" in console, "a machine that runs without restart ends with its kernel"
