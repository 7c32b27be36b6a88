"""What makes a snapshot usable, and every way in which it is not."""

import os
from pathlib import Path

import msgspec
import pytest

from bhatti.engines.qemu import snapshot
from bhatti.engines.qemu.host import QemuHost, open_host
from bhatti.engines.qemu.record import Frame, MachineRecord, Phase
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.engines.qemu.snapshot import Manifest
from bhatti.model.sandbox import SandboxSpec

SPEC = SandboxSpec(id="s1", name="box", image="base", cpus=1, memory_mib=128, disk_mib=64, token="secret")
NAMES = ("kernel", "initramfs", "base", "layer", "ram", "state")


@pytest.fixture
def host(tmp_path: Path, qemu: str) -> QemuHost:
    return open_host(QemuSettings(state_dir=tmp_path / "s", images_dir=tmp_path, accelerator="tcg", network="user"))


@pytest.fixture
def manifest(tmp_path: Path, host: QemuHost) -> Manifest:
    """A snapshot that is as it should be, of files with some content."""
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode() * 1000)
    frame = Frame(
        kernel=str(tmp_path / "kernel"),
        initramfs=str(tmp_path / "initramfs"),
        kernel_arguments="quiet",
        drives=((str(tmp_path / "base"), True), (str(tmp_path / "layer"), False)),
    )
    record = MachineRecord(
        phase=Phase.STOPPING, spec=SPEC, boot_id="b", created_at=1.0, network="user", frame=frame, agent="lohar/1"
    )
    made = snapshot.make_manifest(host, record, state=tmp_path / "state", memory=tmp_path / "ram")
    snapshot.write_manifest(tmp_path, made)
    return made


def found_obstacle(manifest: Manifest, host: QemuHost) -> str | None:
    return snapshot.obstacle(manifest, snapshot.maker_of(host), card="user")


def test_a_snapshot_that_nobody_touched_can_be_loaded(tmp_path: Path, manifest: Manifest, host: QemuHost) -> None:
    assert snapshot.read_manifest(tmp_path) == manifest
    assert found_obstacle(manifest, host) is None
    assert (manifest.cpus, manifest.memory_mib, manifest.agent) == (1, 128, "lohar/1")


def test_only_its_owner_can_read_a_manifest(tmp_path: Path, manifest: Manifest) -> None:
    assert (tmp_path / snapshot.MANIFEST_FILE).stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.new"))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_gone_is_named(tmp_path: Path, manifest: Manifest, host: QemuHost, name: str) -> None:
    (tmp_path / name).unlink()
    assert str(tmp_path / name) in str(found_obstacle(manifest, host))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_length_is_refused(tmp_path: Path, manifest: Manifest, host: QemuHost, name: str) -> None:
    os.truncate(tmp_path / name, 100)
    assert "has 100 bytes instead of" in str(found_obstacle(manifest, host))


@pytest.mark.parametrize("name", set(NAMES) - {"state"})
def test_a_file_written_to_since_is_refused(tmp_path: Path, manifest: Manifest, host: QemuHost, name: str) -> None:
    with (tmp_path / name).open("r+b") as file:
        file.write(b"X")
    assert "was changed since" in str(found_obstacle(manifest, host))


def test_one_flipped_bit_of_the_state_is_found_even_with_its_old_time(
    tmp_path: Path, manifest: Manifest, host: QemuHost
) -> None:
    path = tmp_path / "state"
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[1234] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "checksum" in str(found_obstacle(manifest, host))


@pytest.mark.parametrize("field", ["engine", "version", "accelerator", "machine", "processor"])
def test_another_maker_is_refused_and_both_are_named(manifest: Manifest, host: QemuHost, field: str) -> None:
    other = msgspec.structs.replace(manifest.maker, **{field: "something else"})
    text = str(found_obstacle(msgspec.structs.replace(manifest, maker=other), host))
    assert "something else" in text
    assert str(getattr(manifest.maker, field)) in text


@pytest.mark.parametrize(("then", "loads"), [("10.0.0", True), ("10.1.9", True), ("10.2.0", False), ("9.1.0", False)])
def test_another_version_that_reads_the_format_may_load_it(
    manifest: Manifest, host: QemuHost, then: str, loads: bool
) -> None:
    now = msgspec.structs.replace(snapshot.maker_of(host), version="newer", format="10.1.0")
    other = msgspec.structs.replace(manifest.maker, format=then)
    found = snapshot.obstacle(msgspec.structs.replace(manifest, maker=other), now, card="user")
    assert (found is None) is loads


def test_another_kind_of_network_card_is_refused(manifest: Manifest, host: QemuHost) -> None:
    assert "network card" in str(snapshot.obstacle(manifest, snapshot.maker_of(host), card="bridge"))


def test_a_format_from_the_future_is_refused(manifest: Manifest, host: QemuHost) -> None:
    assert "format 2" in str(found_obstacle(msgspec.structs.replace(manifest, format=2), host))


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff\xff"])
def test_a_spoilt_manifest_is_no_snapshot(tmp_path: Path, content: bytes) -> None:
    (tmp_path / snapshot.MANIFEST_FILE).write_bytes(content)
    assert "damaged" in str(snapshot.read_manifest(tmp_path))


def test_a_spent_snapshot_is_none_and_says_so(tmp_path: Path, manifest: Manifest) -> None:
    snapshot.spend(tmp_path)
    snapshot.spend(tmp_path)
    assert "spent" in str(snapshot.read_manifest(tmp_path))


def test_a_discarded_snapshot_is_gone_with_its_files(tmp_path: Path, manifest: Manifest) -> None:
    snapshot.discard(tmp_path, tmp_path / "state", tmp_path / "ram")
    assert snapshot.read_manifest(tmp_path) == "it has no memory snapshot"
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "ram").exists()
    snapshot.discard(tmp_path)


def test_holes_of_the_memory_are_not_counted(tmp_path: Path, manifest: Manifest) -> None:
    os.truncate(tmp_path / "ram", 1 << 30)
    assert snapshot.stored_bytes(manifest) < 1 << 20
