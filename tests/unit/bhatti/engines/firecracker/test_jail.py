"""Jails without a machine in them; machines in a jail, and outside, are in test_machine.py."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.firecracker import need_jailer

from bhatti.engines.firecracker import jail
from bhatti.engines.firecracker.version import Firecracker, find_firecracker
from bhatti.errors import EngineFailure, MissingDependency
from bhatti.images.programs import propagation


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


def test_what_it_reaches_is_what_is_there_and_nothing_twice(tmp_path: Path) -> None:
    machine, base, data = tmp_path / "a machine", tmp_path / "base", tmp_path / "data"
    machine.mkdir()
    for path in (base, data, machine / "layer"):
        path.touch()
    files = [(base, True), (data, False), (machine / "layer", False), (tmp_path / "missing", True), (base, False)]
    libraries = [(path, True) for path in jail.libraries("/bin/true")]
    assert jail.reached(machine, "/bin/true", files) == [(base, True), (data, False), *libraries]


def test_the_jailer_is_told_the_name_and_the_limits(tmp_path: Path) -> None:
    line = jail.command_line("/j", ["/bin/true", "--id", "n", "--api-sock", "s"], name="n", directory=tmp_path)
    assert line[line.index("--id") + 1] == "n"
    assert line[-3:] == ["--", "--api-sock", "s"]
    limited = jail.command_line(
        "/j", ["/bin/true", "--id", "n"], name="n", directory=tmp_path, limits=["--cgroup", "pids.max=9"]
    )
    assert limited[-3:] == ["--cgroup", "pids.max=9", "--"]


@pytest.fixture
def inside() -> Iterator[ThreadPoolExecutor]:
    """A thread of its own, which may go into namespaces."""
    if os.geteuid() != 0 or propagation() == "unchanged":
        pytest.skip("a mount namespace with private mounts needs root, and a / that is a mount point")
    with ThreadPoolExecutor(1) as thread:
        yield thread


def test_a_jail_is_seen_by_whoever_went_in_and_what_is_only_read_cannot_be_written(
    tmp_path: Path, inside: ThreadPoolExecutor
) -> None:
    machine, image, data = tmp_path / "a machine", tmp_path / "an image", tmp_path / "data"
    machine.mkdir()
    (machine / jail.BASE).mkdir()
    image.write_text("image")
    data.touch()
    root = jail.root_of(machine, "/bin/true", "n")
    before = Path("/proc/self/mountinfo").read_text()
    inside.submit(jail.enter, machine, root, [(image, True), (data, False)]).result()

    def use() -> None:
        Path(f"{root}{data}").write_text("data")
        Path(f"{root}{machine}/made").touch()
        assert Path(f"{root}{image}").read_text() == "image"
        assert (root / "vda").readlink() == machine / "vda"
        with pytest.raises(OSError, match="Read-only"):
            Path(f"{root}{image}").write_text("changed")
        assert root.parent.stat().st_mode & 0o777 == 0o755

    inside.submit(use).result()
    assert (data.read_text(), image.read_text(), (machine / "made").exists()) == ("data", "image", True)
    assert list((machine / jail.BASE).iterdir()) == []
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_jail_that_cannot_be_built_is_told(tmp_path: Path, inside: ThreadPoolExecutor) -> None:
    root = jail.root_of(tmp_path, "/bin/true", "n")
    with pytest.raises(EngineFailure, match=f"No such file or directory: '{tmp_path}/{jail.BASE}'") as refusal:
        inside.submit(jail.enter, tmp_path, root, []).result()
    assert refusal.value.code == "jail-failed"


def test_a_program_that_is_linked_dynamically_has_its_libraries() -> None:
    found = jail.libraries("/bin/true")
    assert found
    assert all(path.is_absolute() for path in found)
