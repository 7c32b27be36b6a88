"""What needs no process; machines in a jail, and outside, are in test_machine.py."""

from pathlib import Path

import pytest
from tests.firecracker import need_jailer

from bhatti.engines.firecracker import jail
from bhatti.engines.firecracker.version import find_firecracker
from bhatti.errors import MissingDependency


def program(directory: Path, says: str) -> str:
    path = directory / "jailer"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return str(path)


def test_the_real_one_fits_its_firecracker(firecracker: str) -> None:
    jailer = need_jailer(firecracker)
    assert jail.find_jailer(jailer, find_firecracker(firecracker).version) == jailer


@pytest.mark.parametrize("says", ["Jailer v1.15.0", "Jailer v1.16.10", "hello there"])
def test_one_of_another_release_is_refused(tmp_path: Path, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(MissingDependency, match=r"and Firecracker is 1\.16\.1") as refusal:
        jail.find_jailer(program(tmp_path, says), "1.16.1")
    assert refusal.value.code == "jailer-unfit"
    assert "firecracker.jailer" in str(refusal.value.hint)


def test_only_root_can_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(MissingDependency, match="needs root") as refusal:
        jail.find_jailer(program(tmp_path, "Jailer v1.16.1"), "1.16.1")
    assert refusal.value.code == "jailer-unfit"


def test_one_that_is_not_there_or_does_not_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingDependency) as refusal:
        jail.find_jailer(str(tmp_path / "jailer"), "1.16.1")
    assert refusal.value.code == "jailer-missing"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELFnonsense")
    broken.chmod(0o755)
    with pytest.raises(MissingDependency, match="cannot run") as refusal:
        jail.find_jailer(str(broken), "1.16.1")
    assert refusal.value.code == "jailer-unfit"


def test_each_machine_has_a_user_that_nobody_else_is_given() -> None:
    users = {jail.user_of(f"bhatti-{number}") for number in range(50)}
    assert len(users) > 40
    assert all(jail.FIRST_USER <= user < jail.FIRST_USER + jail.USERS for user in users)
    assert jail.user_of("bhatti-1") == jail.user_of("bhatti-1")


def test_what_is_only_read_stays_roots_and_can_be_read(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.touch(mode=0o600)
    owner = image.stat().st_uid
    jail._show(image)
    assert (image.stat().st_mode & 0o777, image.stat().st_uid) == (0o644, owner)


def test_what_it_reaches_is_said_before_what_it_runs(tmp_path: Path) -> None:
    drives = [(Path("/images/base"), True), (Path("/volumes/data"), False)]
    line = jail.command_line(
        "/j", ["/bin/true", "--id", "n", "--api-sock", "s"], name="n", directory=tmp_path, files=drives
    )
    words = line[line.index(str(tmp_path)) + 1 : line.index("--")]
    assert words[:4] == ["ro", "/images/base", "rw", "/volumes/data"]
    assert line[line.index("--id") + 1] == "n"
    assert line[-3:] == ["--", "--api-sock", "s"]


def test_a_program_that_is_linked_dynamically_has_its_libraries() -> None:
    found = jail.libraries("/bin/true")
    assert found
    assert all(path.is_absolute() for path in found)
