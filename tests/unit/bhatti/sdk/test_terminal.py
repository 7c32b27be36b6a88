import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.daemons import ROOT, Daemon
from tests.terminals import Screen, screen

from bhatti.errors import InvalidRequest, NotFound, Unavailable
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.terminal import DETACHED, Terminal

RUN = """
import sys, tty
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.terminal import DETACHED, Terminal
import os
tty.setraw(0)
session = sys.argv[2] if len(sys.argv) > 2 else None
command = ["sh", "-c", "echo ready; exec sh"]
with Terminal(Endpoint(path=sys.argv[1]), "one", rows=24, cols=80, command=command, session=session) as terminal:
    code = terminal.run(size=lambda: (os.get_terminal_size(0).lines, os.get_terminal_size(0).columns))
print("code", code, terminal.session_id, flush=True)
"""


def person_at(served: Daemon, *arguments: str) -> AbstractContextManager[tuple[Screen, "subprocess.Popen[bytes]"]]:
    return screen(sys.executable, "-c", RUN, served.endpoint.path, *arguments, env=served.env, cwd=str(ROOT))


def greet(person: Screen) -> None:
    person.wait_for(b"ready")  # what is typed before the terminal is raw would be echoed and lost
    person.type(b"echo up-$((1+1))\n")
    person.wait_for(b"up-2")


def test_what_is_typed_runs_there_and_its_end_is_ours(served: Daemon) -> None:
    with person_at(served) as (person, process):
        greet(person)
        person.type(b"exit 7\n")
        person.wait_for(b"code 7")
        assert process.wait(10) == 0


def test_a_change_of_size_is_passed_on(served: Daemon) -> None:
    with person_at(served) as (person, _):
        greet(person)
        person.resize(40, 132)
        person.type(b"sleep 0.1; stty size\n")
        person.wait_for(b"40 132")
        person.type(b"exit\n")
        person.wait_for(b"code 0")


def test_the_key_detaches_and_the_session_can_be_come_back_to(served: Daemon) -> None:
    with person_at(served) as (person, _):
        greet(person)
        person.type(b"echo before; \x1c")
        session = person.wait_for(b"code -1 s").split(b"code -1 ")[1]
        while not session.endswith(b"\n"):
            session += person.wait_for(b"\n")
    with person_at(served, session.decode().strip()) as (person, _):
        person.wait_for(b"up-2")  # what was there before is shown again
        person.type(b"exit 3\n")
        person.wait_for(b"code 3")


def test_what_cannot_be_opened_is_told(served: Daemon) -> None:
    with pytest.raises(NotFound), Terminal(served.endpoint, "nobody", rows=24, cols=80, command=[]):
        pass
    with pytest.raises(InvalidRequest), Terminal(served.endpoint, "one", rows=0, cols=80, command=[]):
        pass
    with pytest.raises(Unavailable), Terminal(Endpoint(path="/nowhere"), "one", rows=24, cols=80, command=[]):
        pass


def test_a_session_that_is_not_there_is_told(served: Daemon) -> None:
    silent, typist = os.pipe()
    with Terminal(served.endpoint, "one", rows=24, cols=80, command=[], session="s99") as terminal:
        with pytest.raises(NotFound) as caught:
            terminal.run(size=lambda: (24, 80), stdin=silent)
        assert caught.value.code == "session-not-found"
    os.close(silent)
    os.close(typist)


def test_the_end_of_our_own_terminal_detaches(served: Daemon) -> None:
    opened = Terminal(served.endpoint, "one", rows=24, cols=80, command=["cat"])
    with Path(os.devnull).open("rb") as nothing, opened as terminal:
        assert terminal.run(size=lambda: (24, 80), stdin=nothing.fileno()) == DETACHED
