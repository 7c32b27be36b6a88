import os
import subprocess
import sys
from pathlib import Path

import pytest

from lohar.cgroups import IDLE, MANY, ROOT, CommandGroups, open_groups, parse_victim, read_keys, read_number
from lohar.loop import Loop
from lohar.wire.messages import OomKill


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with the names of cgroup2's files, for what needs no kernel behind them."""
    (tmp_path / "cgroup.controllers").write_text("memory pids")
    return tmp_path


def test_without_cgroup2_there_are_no_groups(tmp_path: Path) -> None:
    assert open_groups(str(tmp_path)) is None


def test_where_nobody_may_write_there_are_no_groups(tree: Path) -> None:
    (tree / "bhatti").write_text("a file where the directory should be")
    assert open_groups(str(tree)) is None


def test_every_command_has_a_directory_of_its_own(tree: Path) -> None:
    groups = open_groups(str(tree), kernel_log=os.devnull)
    assert groups is not None
    first, second = groups.create(), groups.create()
    assert first is not None
    assert second is not None
    assert first.path != second.path
    assert Path(first.path).is_dir()
    assert (first.oom_kill(), first.cpu_ms()) == (None, 0)


def test_a_kill_is_told_with_its_victim_and_the_limit(tree: Path) -> None:
    log = tree / "kmsg"
    log.touch()
    groups = open_groups(str(tree), kernel_log=str(log))
    assert groups is not None
    group = groups.create()
    assert group is not None
    (Path(group.path) / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    (Path(group.path) / "memory.max").write_text("max\n")
    (tree / "bhatti" / "memory.max").write_text("1048576\n")
    log.write_bytes(SUMMARY + b",task_memcg=/bhatti/c1,task=python3,pid=9,uid=0\n")
    assert group.oom_kill() == OomKill(victim="python3", pid=9, limit_bytes=1048576)


SUMMARY = b"6,1,2,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom"


@pytest.mark.parametrize(
    ("record", "victim"),
    [
        (SUMMARY + b",task_memcg=/bhatti/c3,task=python3,pid=812,uid=1000\n", ("/bhatti/c3", "python3", 812)),
        (SUMMARY + b",task_memcg=/bhatti/c3,task=a,pid=1,b,pid=9,uid=0\n", ("/bhatti/c3", "a,pid=1,b", 9)),
        (SUMMARY + b",task_memcg=/,task=x,pid=y,uid=0", None),
        (b"3,1,2,-;Out of memory: Killed process 812 (python3) total-vm:1kB", None),
        (b"6,1,2,-;eth0: link up", None),
        (b"", None),
    ],
)
def test_the_victim_is_read_from_the_kernels_words(record: bytes, victim: tuple[str, str, int] | None) -> None:
    assert parse_victim(record) == victim


def test_each_group_is_told_its_own_victim(tree: Path) -> None:
    log = tree / "kmsg"
    log.touch()
    groups = open_groups(str(tree), kernel_log=str(log))
    assert groups is not None
    first, second = groups.create(), groups.create()
    assert first is not None
    assert second is not None
    log.write_bytes(SUMMARY + b",task_memcg=/bhatti/c1,task=one,pid=11,uid=0\n")
    assert groups.victim(second.path) == ("", 0)
    assert groups.victim(first.path) == ("one", 11)
    assert groups.victim(first.path) == ("", 0)


def test_keys_and_numbers_are_read_or_absent(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("oom 1\noom_kill 3\nname value\n")
    (tmp_path / "number").write_text("42\n")
    (tmp_path / "max").write_text("max\n")
    assert read_keys(str(tmp_path / "keys")) == {"oom": 1, "oom_kill": 3}
    assert read_keys(str(tmp_path / "missing")) == {}
    assert read_number(str(tmp_path / "number")) == 42
    assert read_number(str(tmp_path / "max")) is None


def test_an_empty_group_is_used_again_and_counts_anew(tree: Path) -> None:
    groups = CommandGroups(str(tree))
    first = groups.create()
    assert first is not None
    (Path(first.path) / "memory.events").write_text("oom_kill 1\n")
    (Path(first.path) / "cpu.stat").write_text("usage_usec 5000\n")
    assert first.oom_kill() is not None
    assert first.cpu_ms() == 5
    first.close()
    groups.reclaim()
    second = groups.create()
    assert second is first
    assert (second.oom_kill(), second.cpu_ms()) == (None, 0)
    (Path(first.path) / "cpu.stat").write_text("usage_usec 8000\n")
    assert second.cpu_ms() == 3


def test_a_group_with_processes_is_used_again_when_they_have_gone(tree: Path) -> None:
    groups = CommandGroups(str(tree))
    first = groups.create()
    assert first is not None
    (Path(first.path) / "cgroup.procs").write_text("812\n")
    first.close()
    groups.reclaim()
    assert groups.create() is not first
    (Path(first.path) / "cgroup.procs").write_text("")
    groups.reclaim()
    assert groups.create() is first


def test_groups_are_looked_at_later_when_nobody_waits(tree: Path) -> None:
    loop = Loop()
    groups = CommandGroups(str(tree), loop=loop)
    first, second = groups.create(), groups.create()
    assert first is not None
    assert second is not None
    first.close()
    second.close()
    assert groups.create() not in (first, second)
    while groups.create() not in (first, second):
        loop.turn(0.1)
    loop.close()


def test_of_many_groups_an_empty_one_is_looked_for_at_once(tree: Path) -> None:
    groups = CommandGroups(str(tree))
    made = [groups.create() for _ in range(MANY)]
    assert made[0] is not None
    made[0].close()
    assert groups.create() is made[0]


def test_after_a_busy_moment_few_groups_are_left(tree: Path) -> None:
    groups = CommandGroups(str(tree))
    made = [groups.create() for _ in range(MANY)]
    for group in made:
        assert group is not None
        group.close()
    groups.reclaim()
    assert len(list(tree.glob("c*/"))) == IDLE
    again = [groups.create() for _ in range(IDLE + 1)]
    assert again[-1] not in made
    assert len({group.path for group in again if group is not None}) == IDLE + 1


def test_a_group_that_an_agent_before_us_has_left_is_taken(tree: Path) -> None:
    (tree / "c1").mkdir()
    group = CommandGroups(str(tree)).create()
    assert group is not None
    assert group.path == str(tree / "c1")


def test_a_group_that_cannot_be_made_is_no_error(tree: Path) -> None:
    assert CommandGroups(str(tree / "missing")).create() is None


@pytest.mark.skipif(
    sys.platform != "linux" or not Path(f"{ROOT}/cgroup.controllers").exists() or not os.access(ROOT, os.W_OK),
    reason="no writable cgroup2 here; the conformance suite runs this in a virtual machine",
)
def test_the_kernel_kills_a_group_as_a_whole() -> None:
    groups = open_groups()
    assert groups is not None
    group = groups.create()
    assert group is not None
    child = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"])
    group.add(child.pid)
    group.kill()
    assert child.wait(60) < 0
    group.close()
