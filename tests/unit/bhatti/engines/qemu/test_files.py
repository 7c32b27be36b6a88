import json
import subprocess
from pathlib import Path

import pytest
from tests.unit.bhatti.engines.qemu.test_record import SPEC

from bhatti.engines.qemu import files
from bhatti.engines.qemu.files import MachineFiles
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import NotFound, OutOfSpace
from bhatti.images.volume import make_volume
from bhatti.model.sandbox import VolumeAttachment


def test_all_files_of_a_machine_are_in_its_directory(tmp_path: Path) -> None:
    machine = MachineFiles(tmp_path)
    paths = [machine.memory, machine.layer, machine.config, machine.monitor, machine.console, machine.log]
    assert len({path.name for path in paths}) == 6
    assert {path.parent for path in paths} == {tmp_path}


def test_the_config_drive_holds_what_was_asked_for(tmp_path: Path) -> None:
    machine = MachineFiles(tmp_path)
    files.make_config(machine, SPEC, ("9.9.9.9",))
    dump = ["/usr/sbin/debugfs", "-R", "cat /config.json", str(machine.config)]
    config = json.loads(subprocess.run(dump, capture_output=True, check=True).stdout)
    assert config["sandbox_id"] == "s1"
    assert config["hostname"] == "box"
    assert config["token"] == "secret"
    assert config["env"] == {"A": "ä"}
    assert config["dns"] == ["9.9.9.9"]
    assert config["files"] == {"/etc/x": {"content": "AP8="}}
    assert config["volumes"] == [{"device": "/dev/vde", "mount": "/data", "read_only": True}]


def test_the_layer_is_as_large_as_asked_and_takes_next_to_no_space(tmp_path: Path) -> None:
    machine = MachineFiles(tmp_path)
    files.make_disk(machine, 1024)
    stat = machine.layer.stat()
    assert stat.st_size == 1024 << 20
    assert stat.st_blocks * 512 < 2 << 20


def test_too_little_space_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    files.check_space(tmp_path, 128)
    with pytest.raises(OutOfSpace, match="1073741824 MiB needs") as caught:
        files.check_space(tmp_path, 1 << 30)
    assert caught.value.hint is not None


def test_volumes_are_found_in_order_and_a_missing_one_is_named(tmp_path: Path) -> None:
    settings = QemuSettings(state_dir=tmp_path, images_dir=tmp_path)
    settings.volumes_dir.mkdir()
    for name in ("a", "b"):
        make_volume(settings.volumes_dir / f"{name}.ext4", 1)
    wanted = tuple(VolumeAttachment(name, f"/{name}") for name in ("b", "a"))
    assert [path.name for path in files.find_volumes(settings, wanted)] == ["b.ext4", "a.ext4"]
    with pytest.raises(NotFound, match="'c'") as caught:
        files.find_volumes(settings, (*wanted, VolumeAttachment("c", "/c")))
    assert caught.value.code == "volume-not-found"


def test_removing_is_complete_and_harmless_a_second_time(tmp_path: Path) -> None:
    directory = tmp_path / "s1"
    (directory / "below").mkdir(parents=True)
    (directory / "below" / "file").touch()
    files.remove_files(directory)
    files.remove_files(directory)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        files.remove_files(tmp_path / "file")
