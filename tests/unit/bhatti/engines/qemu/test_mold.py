"""Molds on disk: made from the files of a machine, found again, refused when they are not whole."""

import os
from pathlib import Path

import msgspec
import pytest

from bhatti.engines.qemu import mold
from bhatti.engines.qemu.files import MachineFiles
from bhatti.engines.qemu.host import QemuHost, open_host
from bhatti.engines.qemu.record import Frame, MachineRecord, Phase
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.model.sandbox import SandboxSpec

SPEC = SandboxSpec(id="s1", name="box", image="base", cpus=1, memory_mib=128, disk_mib=64, token="secret")


@pytest.fixture
def host(tmp_path: Path, qemu: str) -> QemuHost:
    return open_host(QemuSettings(state_dir=tmp_path / "s", images_dir=tmp_path, accelerator="tcg", network="user"))


@pytest.fixture(params=[False, True], ids=["memory in a file", "memory in the state"])
def private(request: pytest.FixtureRequest) -> bool:
    found: bool = request.param
    return found


@pytest.fixture
def made(tmp_path: Path, host: QemuHost, private: bool) -> MachineFiles:
    """A mold of a machine whose files have some content."""
    source = MachineFiles(tmp_path / "source")
    source.directory.mkdir()
    shared = [tmp_path / name for name in ("kernel", "initramfs", "base", "agent")]
    for path in [*shared, source.config, source.layer, *(() if private else (source.memory,))]:
        path.write_bytes(path.name.encode() * 500)
    kernel, initramfs, base, agent = map(str, shared)
    frame = Frame(
        kernel=kernel,
        initramfs=initramfs,
        kernel_arguments="quiet",
        drives=((base, True), (agent, True), (str(source.config), True), (str(source.layer), False)),
        private=private,
    )
    record = MachineRecord(
        phase=Phase.RUNNING, spec=SPEC, boot_id="b", created_at=1.0, network="user", frame=frame, generation=4
    )
    target = MachineFiles(tmp_path / "mold")
    mold.new_directory(target.directory)
    target.state.write_bytes(b"state")
    mold.seal_mold(host, mold.copy_machine(source, record, target), target)
    return target


def test_a_mold_is_found_with_its_own_files(made: MachineFiles, host: QemuHost, private: bool) -> None:
    found = mold.read_mold(host, made.directory)
    assert isinstance(found, mold.Mold)
    assert found.has_memory_file is not private
    assert made.memory.exists() is not private
    assert (found.record.spec, found.record.generation) == (SPEC, 4)
    assert [Path(path).name for path, _ in found.frame.drives] == ["base", "agent", "config.ext4", "layer.ext4"]
    assert Path(found.frame.drives[mold.LAYER_DRIVE][0]) == made.layer


def test_the_machine_it_came_from_may_go_on_writing(made: MachineFiles, host: QemuHost, tmp_path: Path) -> None:
    (tmp_path / "source" / "layer.ext4").write_bytes(b"other")
    assert isinstance(mold.read_mold(host, made.directory), mold.Mold)


@pytest.mark.parametrize("name", ["state", "layer.ext4", "config.ext4"])
def test_a_mold_that_is_not_whole_is_refused_with_the_reason(made: MachineFiles, host: QemuHost, name: str) -> None:
    os.truncate(made.directory / name, 1)
    assert name in str(mold.read_mold(host, made.directory))


def test_a_mold_whose_memory_is_not_what_it_was_is_found_by_reading_it(
    made: MachineFiles, host: QemuHost, private: bool
) -> None:
    assert isinstance(mold.read_whole_mold(host, made.directory), mold.Mold)
    if private:
        return
    before = made.memory.stat()
    content = bytearray(made.memory.read_bytes())
    content[77] ^= 1
    made.memory.write_bytes(content)
    os.utime(made.memory, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert isinstance(mold.read_mold(host, made.directory), mold.Mold)
    assert "checksum" in str(mold.read_whole_mold(host, made.directory))


def test_a_mold_without_manifest_or_record_is_none(made: MachineFiles, host: QemuHost) -> None:
    record = made.directory / "machine.json"
    record.rename(made.directory / "elsewhere")
    assert "says nothing of its machine" in str(mold.read_mold(host, made.directory))
    record.write_bytes(b"{")
    assert "cannot be read" in str(mold.read_mold(host, made.directory))
    (made.directory / "snapshot.json").unlink()
    assert "no memory snapshot" in str(mold.read_mold(host, made.directory))


def test_an_unfinished_mold_is_begun_anew(made: MachineFiles) -> None:
    mold.new_directory(made.directory)
    assert list(made.directory.iterdir()) == []


def test_only_the_drives_of_one_machine_alone_are_exchanged(made: MachineFiles, host: QemuHost) -> None:
    found = mold.read_mold(host, made.directory)
    assert isinstance(found, mold.Mold)
    drives = mold.with_own_drives(found.frame, config=Path("/c"), layer=Path("/l"))
    assert drives[:2] == found.frame.drives[:2]
    assert drives[2:] == (("/c", True), ("/l", False))
    assert msgspec.structs.replace(found.frame, drives=drives).kernel == found.frame.kernel


def test_volumes_take_the_first_slots_of_a_mold(made: MachineFiles, host: QemuHost) -> None:
    found = mold.read_mold(host, made.directory)
    assert isinstance(found, mold.Mold)
    frame = msgspec.structs.replace(found.frame, drives=(*found.frame.drives, ("", False), ("", False)))
    drives = mold.with_volumes(frame, [("/v", True)]).drives
    assert drives == (*found.frame.drives, ("/v", True), ("", False))
