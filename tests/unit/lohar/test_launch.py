import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lohar.failures import RequestError
from lohar.launch import DEFAULT_ENV, Launcher, find_program
from lohar.reaper import exit_code


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    made = Launcher()
    yield made
    made.close()


def run(launcher: Launcher, *argv: str, cwd: str | None = None, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a program; return its exit code and what it wrote to stdout and stderr."""
    reader, writer = os.pipe()
    try:
        pid = launcher.start(
            argv,
            DEFAULT_ENV if env is None else env,
            [(os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_DUP2, writer, 2)],
            cwd=cwd,
        )
        os.close(writer)
        writer = -1
        with os.fdopen(os.dup(reader)) as output:
            text = output.read()
        return exit_code(os.waitpid(pid, 0)[1]), text
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def test_a_program_has_the_environment_it_was_given_and_no_other(launcher: Launcher) -> None:
    code, output = run(launcher, "env", env={"PATH": "/usr/bin:/bin", "ONLY": "this"})
    assert (code, sorted(output.splitlines())) == (0, ["ONLY=this", "PATH=/usr/bin:/bin"])


def test_a_program_starts_where_it_was_told_and_we_stay_where_we_are(launcher: Launcher, tmp_path: Path) -> None:
    here = Path.cwd()
    assert run(launcher, "pwd", "-P", cwd=str(tmp_path)) == (0, f"{tmp_path}\n")
    assert Path.cwd() == here


def test_a_program_leads_a_session_of_its_own(launcher: Launcher) -> None:
    pid = launcher.start(["sleep", "60"], DEFAULT_ENV)
    try:
        assert os.getsid(pid) == pid
        assert os.getpgid(pid) == pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_signals_that_python_ignores_have_their_default_again(launcher: Launcher) -> None:
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN, "else there is nothing to test"
    code, _ = run(launcher, "sh", "-c", "kill -PIPE $$")
    assert code == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("argv", "cwd", "words"),
    [
        (["/nonexistent"], None, "start: fork/exec /nonexistent: no such file or directory"),
        (["no-such-program"], None, 'start: exec: "no-such-program": executable file not found in $PATH'),
        ([""], None, "start: exec: empty command name: not found"),
        (["/tmp"], None, "start: fork/exec /tmp: permission denied"),
        (["/etc/passwd"], None, "start: fork/exec /etc/passwd: permission denied"),
        (["true"], "/nonexistent", "start: chdir /nonexistent: no such file or directory"),
        (["true"], "/etc/passwd", "start: chdir /etc/passwd: not a directory"),
    ],
)
def test_what_cannot_start_says_why_in_the_words_that_clients_look_for(
    launcher: Launcher, argv: list[str], cwd: str | None, words: str
) -> None:
    here = Path.cwd()
    with pytest.raises(RequestError) as caught:
        launcher.start(argv, DEFAULT_ENV, cwd=cwd)
    assert str(caught.value) == words
    assert Path.cwd() == here


def test_a_missing_interpreter_is_not_blamed_on_nobody(launcher: Launcher, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nonexistent/interpreter\n")
    script.chmod(0o755)
    with pytest.raises(RequestError, match=f"fork/exec {script}: no such file"):
        launcher.start([str(script)], DEFAULT_ENV)


def test_programs_are_looked_up_in_the_path_of_the_command(tmp_path: Path) -> None:
    for folder, mode in (("first", 0o644), ("second", 0o755), ("third", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").touch(mode)
    (tmp_path / "second" / "dir").mkdir()
    path = ":".join(str(tmp_path / folder) for folder in ("missing", "first", "second", "third"))
    assert find_program("tool", {"PATH": path}) == str(tmp_path / "second" / "tool")
    assert find_program("./tool", {"PATH": path}) == "./tool"
    with pytest.raises(RequestError, match="not found"):
        find_program("dir", {"PATH": path})
    with pytest.raises(RequestError, match="not found"):
        find_program("tool", {})
    with pytest.raises(RequestError, match="first/tool: permission denied"):
        find_program("tool", {"PATH": str(tmp_path / "first")})


def test_a_terminal_becomes_the_controlling_one(launcher: Launcher) -> None:
    master, slave = os.openpty()
    pid = launcher.start(
        ["sh", "-c", "echo here > /dev/tty; tty; test -t 0 && test -t 1 && test -t 2"], DEFAULT_ENV, terminal=slave
    )
    name = os.ttyname(slave)
    os.close(slave)
    assert exit_code(os.waitpid(pid, 0)[1]) == 0
    assert os.read(master, 1000).decode().split() == ["here", name]
    os.close(master)
