import json
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.daemons import ROOT, Daemon, daemon
from tests.terminals import Screen, screen

from bhatti.errors import InvalidRequest, NotFound, Unavailable
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.terminal import DETACHED, Terminal

RUN = """
import sys, tty
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.terminal import DETACHED, Terminal
import json
import os
import signal
tty.setraw(0)
session = sys.argv[2] if len(sys.argv) > 2 else None
command = ["sh", "-c", "echo ready; exec sh"]
def size():
    found = os.get_terminal_size(0)
    return found.lines, found.columns
def tell(text):
    print("told:", text, end="\\r\\n", flush=True)
endpoint = Endpoint(path=sys.argv[1])
give_up_s = float(os.environ.get("GIVE_UP_S", "600"))
with Terminal(endpoint, "one", size=size, command=command, session=session, tell=tell, give_up_s=give_up_s) as terminal:
    code = terminal.run()
print("code", code, terminal.session_id, flush=True)
"""


def person_at(served: Daemon, *arguments: str) -> AbstractContextManager[tuple[Screen, "subprocess.Popen[bytes]"]]:
    return screen(sys.executable, "-c", RUN, served.endpoint.path, *arguments, env=served.env, cwd=str(ROOT))


def small() -> tuple[int, int]:
    return 24, 80


def greet(person: Screen) -> None:
    person.wait_for(b"ready")  # what is typed before the terminal is raw would be echoed and lost
    person.type(b"echo up-$((1+1))\n")
    person.wait_for(b"up-2")


def test_what_is_typed_runs_there_and_its_end_is_ours(served: Daemon) -> None:
    with person_at(served) as (person, process):
        greet(person)
        person.type(b"exit 7\n")
        person.wait_for(b"code 7")
        assert process.wait(60) == 0


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
        person.wait_for(b"code -1 ")
        session = person.wait_for(b"\n")
    with person_at(served, session.decode().strip()) as (person, _):
        person.wait_for(b"up-2")  # what was there before is shown again
        person.type(b"exit 3\n")
        person.wait_for(b"code 3")


def test_what_cannot_be_opened_is_told(served: Daemon) -> None:
    with pytest.raises(NotFound), Terminal(served.endpoint, "nobody", size=small, command=[]):
        pass
    with pytest.raises(InvalidRequest), Terminal(served.endpoint, "one", size=lambda: (0, 80), command=[]):
        pass
    with pytest.raises(Unavailable), Terminal(Endpoint(path="/nowhere"), "one", size=small, command=[]):
        pass


def test_a_session_that_is_not_there_is_told(served: Daemon) -> None:
    silent, typist = os.pipe()
    with Terminal(served.endpoint, "one", size=small, command=[], session="s99") as terminal:
        with pytest.raises(NotFound) as caught:
            terminal.run(stdin=silent)
        assert caught.value.code == "session-not-found"
    os.close(silent)
    os.close(typist)


def test_the_end_of_our_own_terminal_detaches(served: Daemon) -> None:
    opened = Terminal(served.endpoint, "one", size=small, command=["cat"])
    with Path(os.devnull).open("rb") as nothing, opened as terminal:
        assert terminal.run(stdin=nothing.fileno()) == DETACHED


def test_a_daemon_that_does_not_come_back_is_waited_for_and_then_told() -> None:
    with daemon() as own:
        own.out("create", "one")
        own.env["GIVE_UP_S"] = "1.5"
        with person_at(own) as (person, process):
            greet(person)
            own.stop(signal.SIGKILL)
            person.wait_for(b"trying to come back")
            assert b"trying" not in person.wait_for(b"did not come back"), "told once, not at every attempt"
            assert process.wait(60) == 1


def test_a_lost_terminal_can_be_left_and_a_found_one_has_what_was_typed() -> None:
    with daemon() as own:
        own.out("create", "one")
        with person_at(own) as (staying, _), person_at(own) as (leaving, _):
            greet(staying)
            greet(leaving)
            own.stop(signal.SIGKILL)
            leaving.type(b"\x1c")
            leaving.wait_for(b"code -1")
            staying.type(b"echo kept-$((1+1))\n")
            own.start()
            staying.wait_for(b"kept-2")


def test_a_sandbox_that_died_meanwhile_is_told_of() -> None:
    with daemon() as own:
        own.out("create", "one")
        with person_at(own) as (person, process):
            greet(person)
            own.stop(signal.SIGKILL)
            (guest,) = (json.loads(path.read_bytes())["pid"] for path in own.directory.glob("m/*/machine.json"))
            os.kill(guest, signal.SIGKILL)
            own.start()
            person.wait_for(b"has failed")
            assert process.wait(60) == 1


def test_asked_to_end_it_detaches(served: Daemon) -> None:
    with person_at(served) as (person, process):
        greet(person)
        process.send_signal(signal.SIGTERM)
        person.wait_for(b"code -1")


SLOW = 'trap "stty size" WINCH; echo at-work; while :; do sleep 0.5; done'
"""A shell hears of signals when its command is over: several that came meanwhile are one to it."""


def test_a_slow_program_sees_that_it_has_to_draw_its_screen_anew() -> None:
    with daemon() as own:
        own.out("create", "one")
        with person_at(own) as (person, process):
            greet(person)
            person.type(f"exec sh -c '{SLOW}'\n".encode())
            person.wait_for(b"at-work")
            own.out("stop", "one")
            person.wait_for(b"type to wake it")
            person.type(b"x")
            person.wait_for(b"connected again")
            person.wait_for(b"24 79")
            person.wait_for(b"24 80")
            person.type(b"\x1c")
            person.wait_for(b"code -1")
            assert process.wait(60) == 0
