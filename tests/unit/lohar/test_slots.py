"""In a directory that looks like /sys. What a kernel makes of it is in the conformance suite."""

from pathlib import Path

import pytest

from lohar import slots


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with its four disks, a network card, three disks without a driver, and what is mounted."""
    for directory in ("sys/block", "sys/bus/virtio/drivers/virtio_blk", "sys/bus/virtio/devices", "proc/self"):
        (tmp_path / directory).mkdir(parents=True)
    for number, kind in enumerate(("4", "2", "2", "2", "2", "1")):
        device(tmp_path, number, kind)
        if kind == "2":
            disk(tmp_path, f"vd{'abcd'[number - 1]}", number)
    (tmp_path / "proc/self/mounts").write_text("/dev/vda / ext4 ro 0 0\n")
    return tmp_path


def device(root: Path, number: int, kind: str) -> Path:
    made = root / f"sys/bus/virtio/devices/virtio{number}"
    made.mkdir()
    (made / "device").write_text(f"0x000{kind}\n")
    return made


def disk(root: Path, name: str, number: int) -> None:
    driven = root / f"sys/bus/virtio/devices/virtio{number}"
    (driven / "driver").symlink_to("../../drivers/virtio_blk")
    (root / f"sys/block/{name}").mkdir()
    (root / f"sys/block/{name}/device").symlink_to(driven)


def said(root: Path, what: str) -> str:
    path = root / "sys/bus/virtio/drivers/virtio_blk" / what
    return path.read_text() if path.exists() else ""


def test_a_machine_without_spare_disks_is_left_alone(root: Path) -> None:
    slots.take_out(str(root))
    assert said(root, "unbind") == ""


def test_a_spare_disk_is_taken_out_unless_it_is_mounted(root: Path) -> None:
    for number, name in ((6, "vde"), (7, "vdf")):
        device(root, number, "2")
        disk(root, name, number)
    (root / "proc/self/mounts").write_text("/dev/vda / ext4 ro 0 0\n/dev/vdf /data ext4 rw 0 0\n")
    slots.take_out(str(root))
    assert said(root, "unbind") == "virtio6"


def test_a_disk_that_is_there_needs_no_slot(root: Path) -> None:
    slots.put_in("/dev/vdd", str(root))
    assert said(root, "bind") == ""


def test_disks_are_put_in_in_the_order_of_the_machine_until_the_one_is_there(root: Path) -> None:
    for number in (10, 9):
        device(root, number, "2")
    (root / "sys/bus/virtio/devices/virtio11").mkdir()  # one that goes while it is looked at
    with pytest.raises(FileNotFoundError, match="/dev/vde"):
        slots.put_in("/dev/vde", str(root))
    assert said(root, "bind") == "virtio10"  # the last that was tried
    assert slots._forgotten(str(root)) == ["virtio9", "virtio10"]
