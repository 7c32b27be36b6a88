import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lohar.child import Child
from lohar.loop import Loop
from lohar.memory import SharedMemory, open_memory
from lohar.reaper import Reaper
from lohar.wire.messages import ExitReason, OomKill


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def groups(folder: Path, *, version: int, kills: int = 0) -> Path:
    """Write what the kernel shows of a container's control group."""
    if version == 2:
        (folder / "memory.events").write_text(f"low 0\nhigh 0\nmax 5\noom 1\noom_kill {kills}\n")
        (folder / "memory.max").write_text("134217728\n")
    else:
        (folder / "memory").mkdir(exist_ok=True)
        (folder / "memory/memory.oom_control").write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")
        (folder / "memory/memory.limit_in_bytes").write_text("134217728\n")
    return folder


def run(loop: Loop, script: str, memory: SharedMemory | None) -> Child:
    """Run a shell to its end, watched as the agent's commands are."""
    reaper = Reaper(loop)
    reaper.start()
    kills = memory.kills() if memory is not None else 0
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", script], {})
    child = Child(loop, reaper, pid, ("/bin/sh", "-c", script))
    if memory is not None:
        memory.watch(child, kills)

    def reaped(ended: Child) -> None:
        if memory is not None and (oom := memory.ended(ended)) is not None:
            ended.ran_out_of_memory(oom)

    child.on_reaped = reaped
    child.on_exit = lambda _: loop.stop()
    loop.run()
    reaper.close()
    return child


@pytest.mark.parametrize("version", [1, 2])
def test_a_command_killed_while_the_kernel_counted_a_kill_ran_out_of_memory(
    loop: Loop, tmp_path: Path, version: int
) -> None:
    memory = open_memory(str(groups(tmp_path, version=version, kills=3)))
    assert memory is not None
    files = {1: tmp_path / "memory/memory.oom_control", 2: tmp_path / "memory.events"}
    child = run(loop, f"sed -i 's/oom_kill 3/oom_kill 4/' {files[version]}; kill -9 $$", memory)
    assert child.exit_info().reason is ExitReason.OOM
    assert child.oom == OomKill(victim="sh", pid=child.pid, limit_bytes=134_217_728)


def test_a_shell_whose_child_was_killed_counts_too(loop: Loop, tmp_path: Path) -> None:
    memory = open_memory(str(groups(tmp_path, version=2)))
    child = run(loop, f"sed -i 's/oom_kill 0/oom_kill 1/' {tmp_path}/memory.events; exit 137", memory)
    assert child.exit_info().reason is ExitReason.OOM


@pytest.mark.parametrize(("script", "reason"), [("kill -9 $$", ExitReason.SIGNALLED), ("exit 137", ExitReason.EXITED)])
def test_no_kill_no_want_of_memory(loop: Loop, tmp_path: Path, script: str, reason: ExitReason) -> None:
    memory = open_memory(str(groups(tmp_path, version=2, kills=7)))
    child = run(loop, script, memory)
    assert (child.exit_info().reason, child.oom) == (reason, None)


def test_who_ended_otherwise_was_not_the_victim(loop: Loop, tmp_path: Path) -> None:
    memory = open_memory(str(groups(tmp_path, version=2)))
    child = run(loop, f"sed -i 's/oom_kill 0/oom_kill 1/' {tmp_path}/memory.events; exit 3", memory)
    assert (child.exit_info().reason, child.code) == (ExitReason.EXITED, 3)


def test_our_own_kill_keeps_its_reason(loop: Loop, tmp_path: Path) -> None:
    reaper = Reaper(loop)
    reaper.start()
    child = Child(loop, reaper, os.posix_spawn("/bin/sleep", ["sleep", "1000"], {}), ("sleep",))
    child.on_exit = lambda _: loop.stop()
    os.kill(child.pid, 0)
    child.reason = ExitReason.TIMEOUT
    os.kill(child.pid, signal.SIGKILL)
    loop.run()
    child.ran_out_of_memory(OomKill(victim="sleep", pid=child.pid))
    reaper.close()
    assert (child.exit_info().reason, child.oom) == (ExitReason.TIMEOUT, None)


def test_a_child_that_was_not_seen_to_start_is_not_judged(loop: Loop, tmp_path: Path) -> None:
    memory = open_memory(str(groups(tmp_path, version=2)))
    assert memory is not None
    child = run(loop, "kill -9 $$", None)
    assert memory.ended(child) is None


def test_without_a_count_there_is_nothing_to_watch(tmp_path: Path) -> None:
    assert open_memory(str(tmp_path)) is None
    (tmp_path / "memory.events").write_text("low 0\n")
    assert open_memory(str(tmp_path)) is None


def test_an_unlimited_container_has_no_limit_to_tell(loop: Loop, tmp_path: Path) -> None:
    memory = open_memory(str(groups(tmp_path, version=2)))
    (tmp_path / "memory.max").write_text("max\n")
    child = run(loop, f"sed -i 's/oom_kill 0/oom_kill 1/' {tmp_path}/memory.events; kill -9 $$", memory)
    assert child.oom == OomKill(victim="sh", pid=child.pid, limit_bytes=None)
