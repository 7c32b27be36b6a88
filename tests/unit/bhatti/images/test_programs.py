import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.lohar.isolated import mount_namespace

from bhatti.errors import EngineFailure, MissingDependency, OutOfSpace
from bhatti.images.programs import find_program, run_program


@pytest.fixture
def bin_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the test's own, first on PATH, for programs that behave in known ways."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


def install(directory: Path, name: str, script: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(MissingDependency) as caught:
        find_program("no-such-program")
    assert "no-such-program" in caught.value.message
    assert "apt-get install no-such-program" in (caught.value.hint or "")


def test_administrators_programs_are_found_without_their_directories_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert find_program("mke2fs").endswith("/mke2fs")


def test_standard_output_is_returned_and_the_locale_is_c(bin_directory: Path) -> None:
    install(bin_directory, "show", 'echo "$LC_ALL $DEBIAN_FRONTEND $EXTRA"; pwd; echo ignored >&2; cat')
    assert run_program(["show"], env={"EXTRA": "x"}, cwd=bin_directory) == f"C noninteractive x\n{bin_directory}\n"


def test_lines_are_told_as_they_come(bin_directory: Path) -> None:
    install(bin_directory, "talk", "echo one >&2; echo two; echo three >&2")
    seen: list[str] = []
    run_program(["talk"], on_line=seen.append)
    assert seen == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        ("cp: write error: No space left on device", OutOfSpace, "out-of-space"),
        ("E: Failed to fetch pool/x.deb  404  Not Found", EngineFailure, "download-failed"),
        ("Temporary failure resolving 'somewhere'", EngineFailure, "download-failed"),
        ("something else", EngineFailure, "image-build-failed"),
        ("", EngineFailure, "image-build-failed"),
    ],
)
def test_a_failure_says_what_the_program_said(
    bin_directory: Path, words: str, kind: type[Exception], code: str
) -> None:
    install(bin_directory, "fail", f"cat >&2 <<'END'\n{words}\nEND\nexit 3")
    with pytest.raises(kind) as caught:
        run_program(["fail"])
    assert isinstance(caught.value, EngineFailure | OutOfSpace)
    assert caught.value.code == code
    assert caught.value.hint
    assert "fail" in caught.value.message
    assert words in caught.value.message


def test_the_name_of_a_failed_program_is_its_own_under_a_lock(bin_directory: Path, tmp_path: Path) -> None:
    install(bin_directory, "fail", "exit 3")
    with (tmp_path / "lock").open("w") as lock, pytest.raises(EngineFailure, match=r"^fail failed with exit status 3"):
        run_program(["fail"], held_lock=lock.fileno())


def test_a_callback_that_fails_ends_the_program(bin_directory: Path) -> None:
    install(bin_directory, "endless", "while :; do echo $$ >&2; done")

    def refuse(line: str) -> None:
        pids.append(int(line))
        raise RuntimeError("stop")

    pids: list[int] = []
    with pytest.raises(RuntimeError, match="stop"):
        run_program(["endless"], on_line=refuse)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@pytest.mark.root
def test_a_contained_program_mounts_where_nobody_else_sees_it(bin_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "point").mkdir()
    install(bin_directory, "mounting", f"mount -t tmpfs none {tmp_path}/point; touch {tmp_path}/point/x; echo $$")
    assert run_program(["mounting"], contained=True) == "1\n"
    assert list((tmp_path / "point").iterdir()) == []


@pytest.mark.root
def test_a_contained_program_runs_in_a_chroot_too(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", *mount_namespace(), "sh", "-c", CHROOTED, "sh", tmp_path, sys.executable, SOURCE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("unchanged 1\n", "")


SOURCE = Path(__file__).parents[4] / "src"
CHROOTED = """
cd "$1"
mkdir root
# The whole system below a directory that is no mount of its own, as in a machine made with chroot(8).
for part in bin etc lib lib64 root sbin tmp usr proc dev "$3"; do
    [ -e "/$part" ] || continue
    mkdir -p "root/$part"; mount --rbind "/$part" "root/$part"
done
real=$(realpath "$2"); prefix=$(dirname "$(dirname "$real")"); site=$(dirname "$(dirname "$2")")
for part in "$prefix" "$site"; do mkdir -p "root/$part"; mount --rbind "$part" "root/$part"; done
PYTHONPATH="$3" exec chroot root "$2" -c "
from bhatti.images import programs
print(programs.propagation(), programs.run_program(['sh', '-c', 'echo \\$\\$'], contained=True), end='')"
"""

BUILDER = """
import fcntl, os, sys
from bhatti.images.programs import run_program
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
run_program(["slow"], held_lock=lock, on_line=lambda line: print(line, flush=True))
"""


def test_the_lock_of_a_killed_builder_is_free_only_when_its_program_is_gone(
    bin_directory: Path, tmp_path: Path
) -> None:
    install(bin_directory, "slow", f"echo $$ >&2; {sys.executable} -c 'import signal; signal.pause()'")
    lock = tmp_path / "lock"
    builder = subprocess.Popen([sys.executable, "-c", BUILDER, lock], stdout=subprocess.PIPE, text=True)
    with builder, lock.open("a") as handle:
        assert builder.stdout is not None
        shell = int(builder.stdout.readline())
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        grandchildren = [int(pid) for pid in children(shell)]
        builder.kill()
        builder.wait()
        # The program itself dies with its builder; what that program had started holds the lock on.
        wait_until_gone(shell)
        assert grandchildren
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for pid in grandchildren:
            os.kill(pid, signal.SIGKILL)
        fcntl.flock(handle, fcntl.LOCK_EX)


def children(pid: int) -> list[str]:
    """Wait until the process has children and return them."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := path.read_text().split():
            return found
        time.sleep(0.01)  # the kernel tells nobody of a fork
    return []


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z":
                return
        except FileNotFoundError:
            return
        time.sleep(0.01)  # not our child, so that nothing can be awaited
    raise AssertionError(f"process {pid} is still there")
