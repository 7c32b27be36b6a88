import json
import subprocess
import sys
from contextlib import AbstractContextManager

import pytest
from tests.daemons import Daemon
from tests.terminals import Screen, screen
from tests.unit.bhatti.cli.conftest import Bhatti


def person_at(served: Daemon, *arguments: str) -> AbstractContextManager[tuple[Screen, "subprocess.Popen[bytes]"]]:
    command = (sys.executable, "-m", "bhatti", *arguments)
    return screen(*command, env=served.env, cwd=str(served.directory))


def test_a_shell_is_a_terminal_in_the_sandbox(served: Daemon) -> None:
    with person_at(served, "shell", "one", "--", "sh", "-c", "echo ready; exec sh") as (person, process):
        person.wait_for(b"ready")
        person.type(b"stty size; tty\n")
        person.wait_for(b"24 80")
        person.type(b"exit 5\n")
        assert process.wait(60) == 5


def test_a_person_detaches_and_comes_back(served: Daemon, bhatti: Bhatti) -> None:
    with person_at(served, "shell", "one", "--", "sh", "-c", "echo ready; exec cat") as (person, process):
        person.wait_for(b"ready")
        (session,) = [found for found in bhatti("ps", "one", "--json").json() if found["running"]]
        assert session["attached"] is True
        person.type(b"\x1c")
        person.wait_for(f"--session {session['session_id']}".encode())
        assert process.wait(60) == 0
    row = bhatti("ps", "one").out.splitlines()[-1].split()
    assert (row[0], row[-2:]) == (session["session_id"], ["yes", "no"])
    with person_at(served, "shell", "one", "-s", session["session_id"]) as (person, process):
        person.wait_for(b"ready")
        person.type(b"\x04")
        assert process.wait(60) == 0


def test_a_login_shell_is_listed_as_one(served: Daemon, bhatti: Bhatti) -> None:
    with person_at(served, "shell", "one") as (person, process):
        person.type(b"echo ready$((1 + 1))\n")
        person.wait_for(b"ready2")
        rows = [line.split(None, 1)[1] for line in bhatti("ps", "one").out.splitlines()]
        assert any(row.startswith("login shell  ") for row in rows)
        person.type(b"exit 4\n")
        assert process.wait(60) == 4


def test_the_end_of_the_sandbox_is_told_on_a_line_of_its_own(served: Daemon) -> None:
    served.out("create", "ending")
    with person_at(served, "shell", "ending", "--", "sh", "-c", "printf 'half a line'; exec cat") as (person, process):
        person.wait_for(b"half a line")
        served.out("rm", "ending")
        assert person.wait_for(b"\r\n") == b"\r\n"
        person.wait_for(b"bhatti:")
        assert process.wait(60) != 0


@pytest.mark.parametrize(("keys", "outcome", "code"), [(b"exit 5\n", "ended", 5), (b"\x1c", "detached", None)])
def test_how_it_ended_is_an_object(served: Daemon, keys: bytes, outcome: str, code: int | None) -> None:
    with person_at(served, "shell", "--json", "one", "--", "sh", "-c", "echo ready; exec sh") as (person, process):
        person.wait_for(b"ready")
        person.type(keys)
        person.wait_for(b'{"session_id"')
        left = json.loads(b'{"session_id"' + person.wait_for(b"}"))
        assert process.wait(60) == (code or 0)
    assert (left["outcome"], left["exit_code"]) == (outcome, code)
    if code is None:
        with person_at(served, "shell", "one", "-s", left["session_id"]) as (person, process):
            person.wait_for(b"ready")
            person.type(b"exit\n")
            assert process.wait(60) == 0


def test_without_a_terminal_there_is_no_shell(bhatti: Bhatti) -> None:
    done = bhatti("shell", "one")
    assert done.code == 2
    assert "bhatti exec one" in done.err


def test_sessions_of_nobody_are_an_error(bhatti: Bhatti) -> None:
    assert bhatti("ps", "nobody").code == 4
