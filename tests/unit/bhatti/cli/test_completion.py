"""Pressing Tab, as the shells do it: a process of its own, with the words in its environment."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemons import Daemon, daemon
from tests.serving import short_directory

from bhatti.cli.completion import SHELLS, script


@pytest.fixture(scope="module")
def own() -> Iterator[Daemon]:
    with daemon() as found:
        for name in ("agent-1", "agent-2", "builder"):
            found.out("create", name)
        found.out("volume", "create", "data", "--size", "64M")
        yield found
        found.out("volume", "rm", "data")


def tab(daemon: Daemon, line: str, shell: str = "zsh") -> list[str]:
    """Press Tab at the end of `line`; return what the shell is offered."""
    words = line.split(" ")
    env = {"_BHATTI_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        env |= {"COMP_WORDS": line.rpartition(" ")[0], "COMP_CWORD": words[-1]}
    done = daemon.bhatti(env=env)
    assert done.stderr == b""
    lines = done.stdout.decode().splitlines()
    return lines[1::3] if shell == "zsh" else [line.partition(",")[2].partition("\t")[0] for line in lines]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bhatti check", ["checkpoint"]),
        ("bhatti checkpoint re", ["restore"]),
        ("bhatti inspect ", ["builder", "agent-2", "agent-1"]),
        ("bhatti inspect a", ["agent-2", "agent-1"]),
        ("bhatti rm agent-1 a", ["agent-2"]),
        ("bhatti exec bui", ["builder"]),
        ("bhatti exec -w /tmp bui", ["builder"]),
        ("bhatti shell -s s1 bui", ["builder"]),
        ("bhatti fork bui", ["builder"]),
        ("bhatti checkpoint create bui", ["builder"]),
        ("bhatti file read bui", ["builder"]),
        ("bhatti volume inspect ", ["data"]),
        ("bhatti volume create d", []),
        ("bhatti create a", []),
        ("bhatti inspect x", []),
        ("bhatti nonsense x", []),
        ("bhatti ls --la", ["--label"]),
        ("bhatti completion f", ["fish"]),
    ],
)
def test_what_fits_is_offered(own: Daemon, line: str, offered: list[str]) -> None:
    assert tab(own, line) == offered


def offered_by_bash(daemon: Daemon, line: str) -> bytes:
    words = line.split(" ")
    env = {"_BHATTI_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return daemon.bhatti(env=env).stdout


def test_the_shell_is_asked_for_files_of_this_machine(own: Daemon) -> None:
    assert offered_by_bash(own, "bhatti file cp bui") == b"plain,builder\n"
    for line in ("bhatti file cp ./sr", "bhatti file cp agent-1:/x ./sr", "bhatti secret set A --from-file ./sr"):
        assert offered_by_bash(own, line) == b"file,./sr\n"
    with short_directory() as directory:
        assert offered_by_bash(Daemon(directory), "bhatti file cp sr") == b"file,sr\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_answered_in_its_own_words(own: Daemon, shell: str) -> None:
    assert tab(own, "bhatti inspect bu", shell) == ["builder"]


def test_the_daemon_that_the_line_names_is_asked(own: Daemon) -> None:
    with short_directory() as directory:
        elsewhere = Daemon(directory)
        for named in (f"--url unix://{own.endpoint.path}", f"--key k --url=unix://{own.endpoint.path}"):
            assert tab(elsewhere, f"bhatti {named} inspect bu") == ["builder"]


def test_without_a_daemon_nothing_is_offered_and_none_is_started() -> None:
    with short_directory() as directory:
        nobody = Daemon(directory)
        assert tab(nobody, "bhatti inspect ") == []
        assert not Path(nobody.endpoint.path).exists()
        assert list(directory.iterdir()) == []


def test_a_daemon_that_does_not_answer_is_not_waited_for(own: Daemon) -> None:
    assert own.process is not None

    own.process.send_signal(signal.SIGSTOP)
    try:
        assert tab(own, "bhatti inspect ") == []
    finally:
        own.process.send_signal(signal.SIGCONT)


def test_bash_completes_with_the_script(own: Daemon, tmp_path: Path) -> None:
    press = 'COMP_WORDS=(bhatti inspect bu); COMP_CWORD=2; _bhatti_completion bhatti; echo "${COMPREPLY[*]}"'

    (tmp_path / "bhatti").write_text(f'#!/bin/sh\nexec {sys.executable} -m bhatti "$@"\n')
    (tmp_path / "bhatti").chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", f'eval "$(bhatti completion bash)"; {press}'],
        env={**own.env, "PATH": f"{tmp_path}:{own.env['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("builder\n", "")


def test_the_scripts_call_us() -> None:
    for shell in SHELLS:
        assert f"_BHATTI_COMPLETE={shell}_complete" in script(shell)
