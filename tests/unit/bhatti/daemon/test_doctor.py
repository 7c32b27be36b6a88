import os
from pathlib import Path

import pytest
from tests.serving import settings_in

from bhatti.daemon import doctor
from bhatti.daemon.lock import sole_daemon
from bhatti.daemon.settings import Settings
from bhatti.operations.types import Check


@pytest.fixture
def settings(directory: Path) -> Settings:
    return settings_in(directory)


def check(settings: Settings, name: str) -> Check:
    return next(found for found in doctor.examine(settings).checks if found.name == name)


def test_a_machine_that_has_everything_is_well(settings: Settings) -> None:
    report = doctor.examine(settings)
    assert report.ok
    assert report.apt == []
    assert {"python", "kernel", "privileges", "memory", "disk", "images", "daemon", "mke2fs"} <= {
        found.name for found in report.checks
    }


def test_what_is_missing_comes_with_the_package_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "SBIN", str(tmp_path))
    report = doctor.examine(settings)
    assert not report.ok
    assert report.apt == ["busybox-static", "e2fsprogs", "mmdebstrap", "zstd"]
    assert check(settings, "mke2fs").hint == "apt install e2fsprogs"


def test_an_engine_that_cannot_be_loaded_is_told(directory: Path) -> None:
    found = check(settings_in(directory, "engine=vmware"), "engine")
    assert (found.status, "vmware" in found.detail) == ("failed", True)


def test_the_engines_findings_are_part_of_it(directory: Path) -> None:
    names = {found.name for found in doctor.examine(settings_in(directory, "engine=qemu")).checks}
    assert len(names) > len({found.name for found in doctor.examine(settings_in(directory)).checks})


def test_a_daemon_that_runs_is_named(settings: Settings) -> None:
    assert "not running" in check(settings, "daemon").detail
    with sole_daemon(settings.lock):
        assert "pid " in check(settings, "daemon").detail


def test_little_space_and_little_memory_are_warnings(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_MIB", 10**12)
    starved = settings_in(directory, "defaults.memory_mb=1000000000")
    assert check(starved, "disk").status == check(starved, "memory").status == "warning"
    assert doctor.examine(starved).ok


def test_somebody_else_than_root_is_told_what_he_does_not_get(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert check(settings, "privileges").status == "warning"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert check(settings, "privileges").status == "ok"


def test_damaged_images_are_told(settings: Settings) -> None:
    names = Path(settings.images_dir) / "names"
    names.mkdir(parents=True)
    (names / "base.json").write_text("{")
    found = check(settings, "images")
    assert (found.status, found.hint) == ("failed", "bhatti image build")


def test_a_store_that_is_damaged_is_told(settings: Settings) -> None:
    assert (check(settings, "store").status, "not there yet" in check(settings, "store").detail) == ("ok", True)
    settings.database.write_bytes(b"no store " * 1000)
    found = check(settings, "store")
    assert (found.status, "backup" in (found.hint or "")) == ("failed", True)
    settings.database.unlink()
    settings.database.mkdir()
    assert check(settings, "store").status == "warning"


def test_a_store_that_cannot_be_looked_at_is_no_damage(directory: Path) -> None:
    deep = settings_in(directory / ("x" * 300))  # longer than a name may be: not even its absence can be seen
    found = doctor._store(deep)
    assert (found.status, found.hint) == ("warning", "ask as root")
