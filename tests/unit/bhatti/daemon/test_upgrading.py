import os
from pathlib import Path

import pytest
from tests.firecracker import need_firecracker
from tests.serving import settings_in
from tests.unit.bhatti.engines.firecracker.test_version import program
from tests.unit.bhatti.engines.qemu.test_stored import FIRECRACKER, QEMU, at_rest

from bhatti.daemon import upgrading
from bhatti.engines.firecracker.version import find_firecracker
from bhatti.errors import Forbidden, MissingDependency


def test_all_snapshots_are_listed_with_what_made_them(tmp_path: Path) -> None:
    at_rest(tmp_path / "sandboxes", "anna", FIRECRACKER)
    at_rest(tmp_path / "sandboxes", "anna", FIRECRACKER, checkpoint="before")
    first, second = upgrading.snapshots(settings_in(tmp_path))
    assert (first.sandbox, first.checkpoint, first.engine, first.version) == ("anna", "", "firecracker", "1.16.1")
    assert (second.checkpoint, second.stranded) == ("before", "")
    assert first.size_bytes >= 8192
    assert first.created_at is not None


def test_those_that_a_program_could_not_load_are_stranded(tmp_path: Path) -> None:
    at_rest(tmp_path / "sandboxes", "anna", FIRECRACKER)
    at_rest(tmp_path / "sandboxes", "zoe", QEMU)
    same = str(program(tmp_path, "Firecracker v1.16.1"))
    (found,) = upgrading.stranded(settings_in(tmp_path), same)
    assert (found.sandbox, "engine qemu" in found.stranded) == ("zoe", True)
    configured = settings_in(tmp_path, f"firecracker.binary={program(tmp_path, 'Firecracker v1.17.0')}")
    assert [one.sandbox for one in upgrading.stranded(configured, "")] == ["anna", "zoe"]


def test_the_real_one_tells_which_format_it_writes(tmp_path: Path) -> None:
    found = find_firecracker(need_firecracker())
    assert found.snapshot_format.count(".") == 2


def test_a_snapshot_that_goes_at_this_moment_is_no_failure(tmp_path: Path) -> None:
    (at_rest(tmp_path / "sandboxes", "anna", FIRECRACKER) / "state").unlink()
    assert upgrading.snapshots(settings_in(tmp_path))[0].size_bytes == 0


def test_a_manifest_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (at_rest(tmp_path / "sandboxes", "anna", FIRECRACKER) / "snapshot.json").write_bytes(b"{")
    (found,) = upgrading.snapshots(settings_in(tmp_path))
    assert "damaged" in found.stranded


def test_no_program_is_told_apart_from_no_snapshots(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency):
        upgrading.stranded(settings_in(tmp_path), "/nonexistent/firecracker")


def test_a_state_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sandboxes = tmp_path / "sandboxes"
    sandboxes.mkdir(mode=0o000)
    if os.geteuid() == 0:  # root reads everything

        def refuse(directory: Path) -> None:
            raise PermissionError(directory)

        monkeypatch.setattr(upgrading, "stored", refuse)
    with pytest.raises(Forbidden) as refusal:
        upgrading.snapshots(settings_in(tmp_path))
    assert refusal.value.code == "state-unreadable"
    assert "sudo" in str(refusal.value.hint)
    sandboxes.chmod(0o700)
