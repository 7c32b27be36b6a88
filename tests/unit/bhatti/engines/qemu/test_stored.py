from pathlib import Path

import pytest

from bhatti.engines.qemu import snapshot
from bhatti.engines.qemu.record import RECORD_FILE, MachineRecord, Phase, write_record
from bhatti.engines.qemu.snapshot import Maker, Manifest, SealedFile, write_manifest
from bhatti.engines.qemu.stored import Stored, stored
from bhatti.model.sandbox import SandboxSpec

FIRECRACKER = Maker(
    engine="firecracker", version="1.16.1", format="10.1.0", accelerator="kvm", machine="pci", processor="any"
)
QEMU = Maker(version="7.2.22", accelerator="tcg", machine="microvm", processor="max")


def at_rest(parent: Path, name: str, maker: Maker, *, checkpoint: str = "") -> Path:
    """Make what a stopped sandbox leaves, or one of its checkpoints, so far as it says what made it."""
    directory = parent / f"id-{name}"
    directory.mkdir(parents=True, exist_ok=True)
    spec = SandboxSpec(id=directory.name, name=name, image="base", cpus=1, memory_mib=128, disk_mib=64, token="")
    write_record(directory, MachineRecord(phase=Phase.STOPPED, spec=spec, boot_id="b", created_at=1.0))
    if checkpoint:
        directory = directory / "checkpoints" / checkpoint
        directory.mkdir(parents=True)
    (directory / "state").write_bytes(bytes(8192))
    nothing = SealedFile("/nonexistent", 0, 0)
    manifest = Manifest(
        maker=maker, cpus=1, memory_mib=128, card="bridge", kernel=nothing, initramfs=nothing, kernel_arguments="",
        drives=(), state=snapshot.seal(directory / "state"), memory=None, agent="lohar/1", taken_at=1_700_000_000.0,
    )  # fmt: skip
    write_manifest(directory, manifest)
    return directory


def test_what_sleeps_is_found_with_its_checkpoints_by_name(tmp_path: Path) -> None:
    at_rest(tmp_path, "zoe", FIRECRACKER)
    at_rest(tmp_path, "anna", QEMU)
    at_rest(tmp_path, "anna", QEMU, checkpoint="before")
    (tmp_path / "id-none").mkdir()
    found = stored(tmp_path)
    assert [(one.sandbox, one.checkpoint) for one in found] == [("anna", ""), ("anna", "before"), ("zoe", "")]
    assert [one.manifest and one.manifest.maker for one in found] == [QEMU, QEMU, FIRECRACKER]


def test_nothing_is_at_rest_where_nothing_ever_was(tmp_path: Path) -> None:
    assert stored(tmp_path / "sandboxes") == []


def test_what_has_run_on_is_no_snapshot_any_more(tmp_path: Path) -> None:
    snapshot.spend(at_rest(tmp_path, "anna", FIRECRACKER))
    assert stored(tmp_path) == []


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    directory = at_rest(tmp_path, "anna", FIRECRACKER)
    (directory / snapshot.MANIFEST_FILE).write_bytes(b"{")
    (directory / RECORD_FILE).write_bytes(b"{")
    (found,) = stored(tmp_path)
    assert (found.sandbox, found.manifest) == ("id-anna", None)
    assert "damaged" in found.damage
    assert found.unreadable("1.16.1", "10.1.0") == found.damage


@pytest.mark.parametrize(
    ("maker", "version", "snapshot_format", "words"),
    [
        (FIRECRACKER, "1.16.1", "10.1.0", None),
        (FIRECRACKER, "1.16.1", "", None),
        (FIRECRACKER, "1.17.0", "10.1.0", None),
        (FIRECRACKER, "1.17.0", "10.2.0", None),
        (FIRECRACKER, "1.15.0", "10.0.0", "taken with version 1.16.1, here it is 1.15.0"),
        (FIRECRACKER, "1.18.0", "11.1.0", "taken with version 1.16.1, here it is 1.18.0"),
        (FIRECRACKER, "1.17.0", "", "taken with version 1.16.1, here it is 1.17.0"),
        (QEMU, "1.16.1", "10.1.0", "taken with engine qemu, here it is firecracker"),
    ],
)
def test_another_firecracker_loads_what_is_of_a_format_that_it_knows(
    tmp_path: Path, maker: Maker, version: str, snapshot_format: str, words: str | None
) -> None:
    at_rest(tmp_path, "anna", maker)
    (found,) = stored(tmp_path)
    assert isinstance(found, Stored)
    why = found.unreadable(version, snapshot_format)
    assert (why is None) if words is None else (words in str(why))
