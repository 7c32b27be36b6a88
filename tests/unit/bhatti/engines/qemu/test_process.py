import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from bhatti.engines.qemu.process import Exit, ProcessIdentity, VmProcess, identify, processes_with
from bhatti.errors import EngineFailure, MissingDependency

pytestmark = pytest.mark.anyio

SLEEP = ["/usr/bin/sleep", "3600"]
DEAF = [
    sys.executable,
    "-c",
    "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(7, b'deaf'); time.sleep(3600)",
]


async def environment_of(process: VmProcess) -> set[bytes]:
    environ = anyio.Path(f"/proc/{process.identity.pid}/environ")
    with anyio.fail_after(60):
        # Just after its start, the kernel does not show it yet.
        while not (content := await environ.read_bytes()):  # noqa: ASYNC110
            await anyio.sleep(0.01)
    return {line.partition(b"=")[0] for line in content.split(b"\0") if line}


@pytest.fixture
async def sleeper(tmp_path: Path) -> AsyncIterator[VmProcess]:
    process = await VmProcess.spawn(SLEEP, log=tmp_path / "log")
    yield process
    await process.end()


async def test_a_process_has_a_session_of_its_own_and_none_of_our_environment(sleeper: VmProcess) -> None:
    pid = sleeper.identity.pid
    assert os.getsid(pid) == pid
    assert await environment_of(sleeper) == {b"PATH", b"LANG"}


async def test_the_end_is_noticed_and_the_process_reaped(sleeper: VmProcess) -> None:
    heard: list[Exit] = []
    sleeper.on_death(heard.append)
    assert sleeper.exit is None
    os.kill(sleeper.identity.pid, signal.SIGKILL)
    assert await sleeper.wait() == Exit(signal=signal.SIGKILL)
    assert heard == [Exit(signal=signal.SIGKILL)]
    sleeper.on_death(heard.append)
    assert len(heard) == 2
    with pytest.raises(ProcessLookupError):
        os.kill(sleeper.identity.pid, 0)  # not even a zombie is left


async def test_an_exit_status_is_kept_and_what_was_printed_is_in_the_log(tmp_path: Path) -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    process = await VmProcess.spawn([sys.executable, "-c", program], log=tmp_path / "log")
    assert await process.wait() == Exit(status=3)
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]


async def test_files_are_inherited_at_their_numbers(tmp_path: Path) -> None:
    with (tmp_path / "given").open("w") as given:
        program = "import os; os.write(7, b'hello')"
        process = await VmProcess.spawn(
            [sys.executable, "-c", program], log=tmp_path / "log", inherit={7: given.fileno()}
        )
        await process.wait()
    assert (tmp_path / "given").read_text() == "hello"


async def test_a_missing_program_names_its_package(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match="/nonexistent/qemu") as caught:
        await VmProcess.spawn(["/nonexistent/qemu"], log=tmp_path / "log")
    assert caught.value.code == "qemu-missing"
    assert caught.value.hint == "apt install qemu-system-x86"


async def test_a_known_process_is_adopted_and_ended_by_another_hand(sleeper: VmProcess) -> None:
    adopted = await VmProcess.adopt(sleeper.identity)
    assert adopted is not None
    assert await adopted.end() == "sigterm"
    assert await adopted.wait() is not None


async def test_a_pid_that_came_back_for_another_process_is_not_adopted(sleeper: VmProcess) -> None:
    earlier = ProcessIdentity(sleeper.identity.pid, sleeper.identity.start_time - 1)
    assert await VmProcess.adopt(earlier) is None


async def test_a_dead_process_is_not_adopted(sleeper: VmProcess) -> None:
    await sleeper.end()
    assert await VmProcess.adopt(sleeper.identity) is None


async def test_the_adopted_process_of_somebody_else_ends_without_a_status(tmp_path: Path) -> None:
    # The middle process ends at once, so that the sleeper is nobody's child of ours.
    program = "import subprocess; print(subprocess.Popen(['/usr/bin/sleep', '3600']).pid)"
    middle = await VmProcess.spawn([sys.executable, "-c", program], log=tmp_path / "log")
    await middle.wait()
    identity = identify(int((tmp_path / "log").read_text()))
    assert identity is not None
    adopted = await VmProcess.adopt(identity)
    assert adopted is not None
    await adopted.end()
    assert str(await adopted.wait()) == "exit status unknown, as an earlier daemon started it"


async def test_the_ladder_stops_at_the_first_step_that_works(sleeper: VmProcess) -> None:
    async def ask() -> None:
        os.kill(sleeper.identity.pid, signal.SIGINT)

    assert await sleeper.end(ask) == "asked"
    assert await sleeper.end(ask) == "gone"


async def test_a_refused_question_leads_to_sigterm_without_waiting(
    sleeper: VmProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bhatti.engines.qemu.process.QUIT_GRACE_S", 3600.0)

    async def ask() -> None:
        raise EngineFailure("the monitor is broken")

    assert await sleeper.end(ask) == "sigterm"


async def test_a_process_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    process = await VmProcess.spawn(DEAF, log=tmp_path / "log", inherit={7: writing})
    assert await anyio.to_thread.run_sync(os.read, reading, 4) == b"deaf"
    os.close(reading)
    os.close(writing)
    assert await process.end() == "sigkill"
    assert process.exit == Exit(signal=signal.SIGKILL)


async def test_ending_goes_on_when_its_caller_is_cancelled(sleeper: VmProcess) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        assert await sleeper.end() == "sigterm"
    assert sleeper.exit is not None


async def test_letting_go_leaves_the_process_alive(tmp_path: Path) -> None:
    process = await VmProcess.spawn(SLEEP, log=tmp_path / "log")
    process.aclose()
    process.aclose()
    assert identify(process.identity.pid) == process.identity
    again = await VmProcess.adopt(process.identity)
    assert again is not None
    await again.end()


async def marked(tmp_path: Path, *arguments: str, before: str = "") -> VmProcess:
    """Start a process with arguments that it has no use for, after it has done something."""
    program = [sys.executable, "-c", f"import os, sys, time; {before}; os.write(7, b'up'); time.sleep(3600)"]
    reading, writing = os.pipe()
    process = await VmProcess.spawn([*program, *arguments], log=tmp_path / "log", inherit={7: writing})
    os.close(writing)
    # Just after its start, the kernel does not show a process's arguments yet.
    up = await anyio.to_thread.run_sync(os.read, reading, 2)
    os.close(reading)
    assert up == b"up"
    return process


async def test_a_process_is_found_by_an_argument_of_its(tmp_path: Path) -> None:
    mark = f"bhatti-test-{os.getpid()}"
    process = await marked(tmp_path, mark, before="pass")
    assert processes_with(mark, tmp_path) == [process.identity]
    await process.end()
    assert processes_with(mark, tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about processes in another root directory")
class TestOtherRoots:
    @pytest.fixture
    async def elsewhere(self, tmp_path: Path) -> AsyncIterator[tuple[str, Path, VmProcess]]:
        """A process in another root, and a file that it names, which is not there in that root."""
        mark, log = f"bhatti-test-{os.getpid()}", tmp_path / "machines" / "one" / "log"
        root = tmp_path / "root"
        root.mkdir()
        log.parent.mkdir(parents=True)
        log.touch()
        process = await marked(tmp_path, mark, str(log), str(root), before="os.chroot(sys.argv[3])")
        yield mark, log, process
        await process.end()

    async def test_the_same_path_in_another_root_is_not_ours(self, elsewhere: tuple[str, Path, VmProcess]) -> None:
        mark, log, _ = elsewhere
        there = log.parents[2] / "root" / str(log).lstrip("/")
        there.parent.mkdir(parents=True)
        there.touch()
        assert processes_with(mark, log.parents[1]) == []

    async def test_a_machine_in_its_jail_is_ours_by_the_file_that_it_names(
        self, elsewhere: tuple[str, Path, VmProcess]
    ) -> None:
        mark, log, process = elsewhere
        there = log.parents[2] / "root" / str(log).lstrip("/")
        there.parent.mkdir(parents=True)
        there.hardlink_to(log)
        assert processes_with(mark, log.parents[1]) == [process.identity]
        assert processes_with(mark, log.parents[2] / "others") == []


def test_there_is_no_identity_without_a_process() -> None:
    assert identify(2**22 + 1) is None
    assert identify(os.getpid()) is not None


@pytest.mark.parametrize(("ended", "words"), [(Exit(status=1), "exit status 1"), (Exit(signal=9), "killed by SIGKILL")])
def test_an_exit_says_what_it_was(ended: Exit, words: str) -> None:
    assert str(ended) == words
