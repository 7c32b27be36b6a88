"""What needs no process; the groups of machines in jails are in test_machine.py."""

import os
from pathlib import Path

import pytest

from bhatti.engines.firecracker import cgroups
from bhatti.engines.firecracker.settings import JailLimits
from bhatti.errors import MissingDependency

ALL = JailLimits(cpu_percent=50, memory_spare_mib=64, tasks=32)


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where hierarchies are, of a host that has none yet; `mount` adds one."""
    monkeypatch.setattr(cgroups, "MOUNTS", tmp_path / "mounts")
    (tmp_path / "mounts").write_text(f"tmpfs {tmp_path} tmpfs rw 0 0\n")
    return tmp_path


def mount(mounted: Path, name: str, kind: str, options: str = "rw", *, controllers: str | None = None) -> Path:
    path = mounted / name
    path.mkdir(exist_ok=True)
    if controllers is not None:
        (path / "cgroup.controllers").write_text(controllers)
    with (mounted / "mounts").open("a") as mounts:
        mounts.write(f"{kind} {path} {kind} {options} 0 0\n")
    return path


def test_one_hierarchy_with_everything_is_what_is_used(mounted: Path) -> None:
    mount(mounted, "one", "cgroup2", controllers="cpuset cpu io memory pids\n")
    assert cgroups.find_groups() == cgroups.Groups(2, dict.fromkeys(cgroups.CONTROLLERS, mounted / "one"))
    assert cgroups.arguments(ALL, parent="bhatti-1", cpus=2, memory_mib=256) == [
        *("--cgroup-version", "2", "--parent-cgroup", "bhatti-1"),
        *("--cgroup", "cpu.max=100000 100000", "--cgroup", "memory.max=320M", "--cgroup", "pids.max=34"),
    ]


def test_old_hierarchies_are_used_where_the_new_one_has_nothing(mounted: Path) -> None:
    mount(mounted, "new", "cgroup2", controllers="")
    mount(mounted, "cpu,cpuacct", "cgroup", "rw,cpu,cpuacct")
    for name in ("memory", "pids"):
        mount(mounted, name, "cgroup", f"rw,{name}")
    mount(mounted, "elsewhere", "cgroup", "rw,memory")
    found = cgroups.find_groups()
    assert (found.version, found.mounts["memory"]) == (1, mounted / "memory")
    assert cgroups.arguments(ALL, parent="bhatti-1", cpus=1, memory_mib=256) == [
        *("--cgroup-version", "1", "--parent-cgroup", "bhatti-1"),
        *("--cgroup", "cpu.cfs_quota_us=50000", "--cgroup", "memory.limit_in_bytes=320M", "--cgroup", "pids.max=33"),
    ]


def test_only_what_is_limited_is_said(mounted: Path) -> None:
    assert cgroups.arguments(JailLimits(), parent="bhatti-1", cpus=1, memory_mib=128) == []
    mount(mounted, "one", "cgroup2", controllers="cpu memory pids")
    said = cgroups.arguments(JailLimits(tasks=8), parent="bhatti-1", cpus=1, memory_mib=128)
    assert [word for word in said if "=" in word] == ["pids.max=9"]


def test_limits_that_cannot_be_kept_are_an_error(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount(mounted, "memory", "cgroup", "rw,memory")
    with pytest.raises(MissingDependency, match="this host has no control groups for cpu, pids") as refusal:
        cgroups.find_groups()
    assert refusal.value.code == "cgroups-missing"
    assert "firecracker.jail_" in str(refusal.value.hint)
    path = mount(mounted, "one", "cgroup2", controllers="cpu memory pids")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(MissingDependency, match=f"{path} cannot be written to"):
        cgroups.find_groups()


def test_what_a_machine_leaves_is_removed_wherever_it_is(mounted: Path) -> None:
    groups = [mount(mounted, name, "cgroup") / "bhatti-1" / "machine" for name in ("cpu", "memory")]
    for group in groups:
        group.mkdir(parents=True)
    assert cgroups.release("bhatti-1", "machine")
    assert cgroups.release("bhatti-1", "machine")
    assert [group.exists() for group in groups] == [False, False]
    assert groups[0].parent.exists()
    cgroups.sweep("bhatti-1")
    assert not groups[0].parent.exists()
    cgroups.sweep("bhatti-1")


def test_a_group_that_is_in_use_stays(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "RELEASE_S", 0.02)
    # A directory with something in it can be removed as little as a group with a process in it.
    one = mount(mounted, "one", "cgroup2") / "bhatti-1"
    for name in ("machine/process", "idle", "other/process"):
        (one / name).mkdir(parents=True)
    assert not cgroups.release("bhatti-1", "machine")
    cgroups.sweep("bhatti-1")
    assert sorted(path.name for path in one.iterdir()) == ["machine", "other"]
