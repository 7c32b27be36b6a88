from pathlib import Path

import pytest

from bhatti.engines.firecracker.version import checked_version, find_firecracker, shortcoming
from bhatti.errors import MissingDependency


def program(directory: Path, says: str, *, mode: int = 0o755) -> Path:
    """Make a program that prints `says`, whatever it is asked."""
    path = directory / "program"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
    path.chmod(mode)
    return path


def test_the_real_one_is_found_and_new_enough(firecracker: str) -> None:
    found = find_firecracker(firecracker)
    assert found.path == firecracker
    assert tuple(int(part) for part in found.version.split(".")[:2]) >= (1, 15)


def test_the_format_of_its_snapshots_is_asked_for(tmp_path: Path) -> None:
    path = program(tmp_path, "Firecracker v1.16.1")
    assert find_firecracker(str(path)).snapshot_format == ""
    path.write_text("#!/bin/sh\ncase $1 in --version) echo Firecracker v1.16.1;; *) echo v10.1.0; echo bye;; esac\n")
    assert find_firecracker(str(path)).snapshot_format == "10.1.0"


def test_the_one_on_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "Firecracker v1.15.0\n").rename(tmp_path / "firecracker")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_firecracker().version == "1.15.0"


@pytest.mark.parametrize("version", ["1.15.0", "1.16.1", "2.0.0", "1.17.0-dev"])
def test_versions_from_the_oldest_on_are_taken(version: str) -> None:
    assert checked_version("fc", f"Firecracker v{version}\n\nSupported snapshot data format: v8\n") == version


@pytest.mark.parametrize("version", ["0.25.2", "1.9.1", "1.14.4"])
def test_an_old_one_is_refused_with_the_reason(version: str) -> None:
    with pytest.raises(MissingDependency, match=rf"fc is Firecracker {version}; .*corrupt snapshots") as refusal:
        checked_version("fc", f"Firecracker v{version}\n")
    assert refusal.value.code == "firecracker-too-old"
    assert refusal.value.hint is not None
    assert "1.15" in refusal.value.hint


def test_what_is_wrong_with_one_that_can_be_used_is_known() -> None:
    assert "console may stay silent" in str(shortcoming("1.15.1"))
    assert [shortcoming(version) for version in ("1.16.0", "1.17.0-dev", "2.0.0")] == [None] * 3


def test_a_program_that_is_none_is_named_with_what_it_says(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match=r"is no Firecracker: .*'hello there'") as refusal:
        find_firecracker(str(program(tmp_path, "hello there")))
    assert refusal.value.code == "firecracker-unknown"


def test_a_file_that_the_kernel_cannot_run_is_named(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELFnonsense")
    path.chmod(0o755)
    with pytest.raises(MissingDependency, match="cannot run") as refusal:
        find_firecracker(str(path))
    assert refusal.value.code == "firecracker-unknown"


def test_one_that_may_not_be_executed_is_told_from_none(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency) as refusal:
        find_firecracker(str(program(tmp_path, "Firecracker v1.16.1", mode=0o644)))
    assert refusal.value.code == "firecracker-forbidden"
    with pytest.raises(MissingDependency) as refusal:
        find_firecracker(str(tmp_path / "nothing"))
    assert refusal.value.code == "firecracker-missing"
