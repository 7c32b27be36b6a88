"""What needs no process; machines in a jail, and outside, are in test_machine.py."""

from pathlib import Path

import pytest
from tests.firecracker import need_jailer

from bhatti.engines.firecracker import jail
from bhatti.engines.firecracker.version import Firecracker, find_firecracker
from bhatti.errors import MissingDependency


def program(directory: Path, says: str) -> str:
    path = directory / "jailer"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host on which nothing is in the way of a jailer."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(jail, "propagation", lambda: "private")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def test_the_real_one_fits_its_firecracker(firecracker: str) -> None:
    jailer = need_jailer(firecracker)
    assert jail.find_jailer(jailer, find_firecracker(firecracker).version) == jailer


@pytest.mark.parametrize("says", ["Jailer v1.15.0", "Jailer v1.16.10", "hello there"])
def test_one_of_another_release_is_refused(tmp_path: Path, says: str, able: None) -> None:
    with pytest.raises(MissingDependency, match=r"and Firecracker is 1\.16\.1") as refusal:
        jail.find_jailer(program(tmp_path, says), "1.16.1")
    assert refusal.value.code == "jailer-unfit"
    assert "firecracker.jailer" in str(refusal.value.hint)


def test_only_root_can_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(MissingDependency, match="needs root") as refusal:
        jail.find_jailer(program(tmp_path, "Jailer v1.16.1"), "1.16.1")
    assert refusal.value.code == "jailer-unfit"


def test_one_that_is_not_there_or_does_not_run_is_refused(tmp_path: Path, able: None) -> None:
    with pytest.raises(MissingDependency) as refusal:
        jail.find_jailer(str(tmp_path / "jailer"), "1.16.1")
    assert refusal.value.code == "jailer-missing"
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELFnonsense")
    broken.chmod(0o755)
    with pytest.raises(MissingDependency, match="cannot run") as refusal:
        jail.find_jailer(str(broken), "1.16.1")
    assert refusal.value.code == "jailer-unfit"


@pytest.mark.parametrize(("binary", "name"), [("firecracker", "jailer"), ("firecracker-v1.16.1", "jailer-v1.16.1")])
def test_the_one_beside_firecracker_is_used_unless_somebody_says_otherwise(
    tmp_path: Path, able: None, binary: str, name: str
) -> None:
    found = Firecracker(str(tmp_path / binary), "1.16.1")
    assert jail.choose_jailer("auto", found).path == ""
    path = tmp_path / name
    Path(program(tmp_path, "Jailer v1.16.1")).rename(path)
    assert jail.choose_jailer("auto", found) == jail.Jailer(str(path))
    assert jail.choose_jailer(str(path), found) == jail.Jailer(str(path))
    assert jail.choose_jailer("", found) == jail.Jailer("", "firecracker.jailer is empty")


def test_the_one_on_path_is_used_where_none_is_beside(
    tmp_path: Path, able: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path, "Jailer v1.16.1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert jail.choose_jailer("auto", Firecracker("/opt/firecracker", "1.16.1")).path == path


def test_one_that_nobody_asked_for_and_does_not_fit_is_left_alone(
    tmp_path: Path, able: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Firecracker(str(tmp_path / "firecracker"), "1.16.1")
    path = program(tmp_path, "Jailer v1.15.0")
    chosen = jail.choose_jailer("auto", found)
    assert (chosen.path, "of version 1.15.0" in chosen.reason) == ("", True)
    with pytest.raises(MissingDependency):
        jail.choose_jailer(path, found)
    monkeypatch.setattr(jail, "propagation", lambda: "unchanged")
    assert "/ is no mount point" in jail.choose_jailer("auto", found).reason


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
    machine, base, data = tmp_path / "a machine", tmp_path / "base", tmp_path / "data"
    machine.mkdir()
    for path in (base, data, machine / "layer"):
        path.touch()
    files = [(base, True), (data, False), (machine / "layer", False), (tmp_path / "missing", True), (base, False)]
    line = jail.command_line(
        "/j", ["/bin/true", "--id", "n", "--api-sock", "s"], name="n", directory=machine, files=files
    )
    root = f"{machine}/jail/true/n/root"
    begin = line.index(root)
    assert line[begin + 1] == str(machine)
    escaped = {path: path.replace(" ", "\\040") for path in (str(machine), root)}
    assert line[begin + 2].splitlines()[:3] == [
        f"{escaped[str(machine)]} {escaped[root]}{escaped[str(machine)]} none bind",
        f"{base} {escaped[root]}{base} none bind,ro",
        f"{data} {escaped[root]}{data} none bind",
    ]
    libraries = [str(path) for path in jail.libraries("/bin/true")]
    assert line[begin + 3 : line.index("--")] == [str(base), str(data), *libraries]
    assert line[line.index("--id") + 1] == "n"
    assert line[-3:] == ["--", "--api-sock", "s"]
    limited = jail.command_line(
        "/j", ["/bin/true", "--id", "n"], name="n", directory=machine, files=[], limits=["--cgroup", "pids.max=9"]
    )
    assert limited[-3:] == ["--cgroup", "pids.max=9", "--"]


def test_a_program_that_is_linked_dynamically_has_its_libraries() -> None:
    found = jail.libraries("/bin/true")
    assert found
    assert all(path.is_absolute() for path in found)
