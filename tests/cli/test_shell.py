"""`bhatti shell` as people see it: in a real terminal, with full-screen programs, and with everything going wrong."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemons import Daemon, daemon
from tests.tmux import Tmux, bhatti_in_window

pytestmark = pytest.mark.timeout(600)

COUNTER = 'echo ready $$ $(tty); i=0; while read -r line; do i=$((i+1)); echo "line $i: $line"; done; exit 5'
"""A program that says its pid and terminal, and then once each what was typed."""

PASTED = r"""
import hashlib, os, sys, tty
tty.setraw(0)
os.write(1, b"\x1b[?2004hready\r\n")
data = b""
while not data.endswith(b"\x1b[201~"):
    data += os.read(0, 65536)
text = data.removeprefix(b"\x1b[200~").removesuffix(b"\x1b[201~")
print(len(data) - len(text), len(text), hashlib.sha256(text).hexdigest()[:16], end="\r\n")
sys.stdout.flush()
os.read(0, 1)
"""
"""A program that wants pastes in brackets, and tells what was in them."""

SIZES = """
import os, signal
signal.signal(signal.SIGWINCH, lambda *_: print(os.get_terminal_size(), flush=True))
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture(scope="module")
def served() -> Iterator[Daemon]:
    with daemon() as found:
        found.out("create", "one")
        yield found


@pytest.fixture(autouse=True)
def it_runs(served: Daemon) -> Iterator[None]:
    yield
    if served.process is None:
        served.start()


def attached(served: Daemon) -> str:
    """The session that somebody types into."""
    (found,) = (one for one in json.loads(served.out("ps", "one", "--json")) if one["running"] and one["attached"])
    return str(found["session_id"])


def started(person: Tmux) -> tuple[int, str]:
    """Wait until the counter runs; return its pid and terminal."""
    found = re.search(r"ready (\d+) (\S+)", person.wait(lambda shown: bool(re.search(r"ready \d+ /dev/\S+\n", shown))))
    assert found is not None
    return int(found[1]), found[2]


def lines(shown: str) -> list[str]:
    """The lines of a screen, as long as they were written."""
    return [line for line in shown.splitlines() if line.strip()]


def test_every_character_of_every_alphabet_comes_and_goes(served: Daemon) -> None:
    with bhatti_in_window(served.env, "shell", "one", "--", "sh", "-c", COUNTER) as person:
        person.wait_for("ready")
        for number, text in enumerate(("grüße", "δοκιμή", "日本語", "🦀 crab", "e\u0301"), 1):
            person.line(text)
            person.wait_for(f"line {number}: {text}")
        person.type("C-d")
        assert person.exit_code() == 5


def test_an_editor_takes_the_whole_screen_and_gives_it_back(served: Daemon) -> None:
    editor = shutil.which("vim.tiny") or shutil.which("vim")
    assert editor, "scripts/setup test installs vim-tiny"
    with bhatti_in_window(served.env, "shell", "one", "--", "sh", "-c", "echo before; exec sh -i") as person:
        person.wait_for("before")
        person.line(f"{editor} -u NONE -N note.txt; echo back")
        person.wait_for('"note.txt"')
        person.type("i", "first", "Enter", "second", "Escape")
        shown = person.wait_for("second")
        assert lines(shown)[:2] == ["first", "second"]
        assert "before" not in shown
        person.resize(60, 15)  # it draws itself anew
        person.type(":s/second/third/", "Enter")
        assert lines(person.wait_for("third"))[:2] == ["first", "third"]
        person.line(":wq")
        shown = person.wait_for("back")
        assert "before" in shown
        assert served.out("file", "read", "one", f"{home(served)}/note.txt") == b"first\nthird\n"


def home(served: Daemon) -> str:
    return served.out("exec", "one", "--", "pwd").decode().strip()


def test_a_paste_of_a_mebibyte_arrives_whole_and_between_its_brackets(served: Daemon) -> None:
    text = "".join(random.Random(6).choices("abc xyz ä€😀\n", k=800_000)).encode()[: 1 << 20]
    assert len(text) == 1 << 20
    with bhatti_in_window(served.env, "shell", "one", "--", "python3", "-c", PASTED) as person:
        person.wait_for("ready")
        person.paste(text)
        person.wait_for(f"12 {len(text)} {hashlib.sha256(text).hexdigest()[:16]}")
        person.type("q")
        assert person.exit_code() == 0


def test_a_storm_of_sizes_ends_at_the_last_one(served: Daemon) -> None:
    with bhatti_in_window(served.env, "shell", "one", "--", "python3", "-c", SIZES) as person:
        person.wait_for("ready")
        dice = random.Random(6)
        for _ in range(100):
            person.resize(dice.randrange(20, 200), dice.randrange(5, 60))
        person.resize(97, 31)
        person.wait_for("columns=97, lines=31")


def test_the_key_leaves_and_the_session_is_come_back_to_at_another_size(served: Daemon) -> None:
    with bhatti_in_window(served.env, "shell", "one", "--", "sh", "-c", COUNTER) as person:
        _, terminal = started(person)
        person.line("mine")
        person.wait_for("line 1: mine")
        person.type("C-\\")
        found = re.search(r"--session (\S+)`", person.wait_for("detached"))
        assert found is not None
        assert person.exit_code() == 0
    with bhatti_in_window(served.env, "shell", "one", "--session", found[1], cols=61, rows=17) as person:
        person.wait_for("line 1: mine")
        assert served.out("exec", "one", "--", "sh", "-c", f"stty size < {terminal}") == b"17 61\n"
        person.type("C-d")
        assert person.exit_code() == 5


def test_one_types_and_others_watch(served: Daemon) -> None:
    with bhatti_in_window(served.env, "shell", "one", "--", "sh", "-c", COUNTER) as person:
        person.wait_for("ready")
        watching = ("shell", "one", "--read-only", "--session", attached(served))
        with bhatti_in_window(served.env, *watching) as first, bhatti_in_window(served.env, *watching) as second:
            for watcher in (first, second):
                watcher.wait_for("ready")
                watcher.line("not heard")
            person.line("heard by all")
            for watcher in (person, first, second):
                assert "not heard" not in watcher.wait_for("line 1: heard by all")
            person.type("C-d")
            assert [watcher.exit_code() for watcher in (person, first, second)] == [5, 5, 5]


def test_who_takes_a_session_over_has_it_alone(served: Daemon) -> None:
    with bhatti_in_window(served.env, "shell", "one", "--", "sh", "-c", COUNTER) as first:
        first.wait_for("ready")
        with bhatti_in_window(served.env, "shell", "one", "-s", attached(served)) as second:
            second.wait_for("ready")
            first.wait_for("taken the session over")
            assert first.exit_code() == 0
            second.line("mine now")
            second.wait_for("line 1: mine now")
            second.type("C-d")
            assert second.exit_code() == 5


def test_a_killed_daemon_costs_the_terminal_nothing(served: Daemon) -> None:
    with bhatti_in_window(served.env, "shell", "one", "--", "sh", "-c", COUNTER) as person:
        _, terminal = started(person)
        person.line("before")
        person.wait_for("line 1: before")
        served.stop(signal.SIGKILL)
        Path(terminal).write_text("said meanwhile\n")
        person.line("typed meanwhile")
        person.wait_for("trying to come back")
        served.start()
        shown = person.wait_for("line 2: typed meanwhile")
        assert shown.count("line 1: before") == 1, "what was seen is not shown again"
        assert shown.count("said meanwhile\n") == 1
        person.type("C-d")
        assert person.exit_code() == 5


def test_what_ended_meanwhile_ends_with_its_own_code(served: Daemon) -> None:
    with bhatti_in_window(served.env, "shell", "one", "--", "sh", "-c", COUNTER) as person:
        process, _ = started(person)
        served.stop(signal.SIGKILL)
        os.kill(process, signal.SIGTERM)
        served.start()
        assert person.exit_code() == 128 + signal.SIGTERM


def test_a_sandbox_that_was_put_to_sleep_sleeps_until_somebody_types(served: Daemon) -> None:
    with bhatti_in_window(served.env, "shell", "one", "--", "sh", "-c", COUNTER) as person:
        person.wait_for("ready")
        served.out("stop", "one")
        person.wait_for("type to wake it")
        assert json.loads(served.out("inspect", "one", "--json"))["status"] == "stopped"
        person.line("wake up")
        person.wait_for("line 1: wake up")
        served.out("stop", "one")
        person.wait(lambda shown: shown.count("type to wake it") == 2)
        served.out("start", "one")  # by somebody else: the terminal is there again by itself
        person.wait(lambda shown: shown.count("connected again") == 2)
        person.line("again")
        person.wait_for("line 2: again")
        person.type("C-d")
        assert person.exit_code() == 5


def test_a_sandbox_that_is_removed_ends_the_terminal_with_what_has_happened(served: Daemon) -> None:
    served.out("create", "short-lived")
    with bhatti_in_window(served.env, "shell", "short-lived", "--", "sh", "-c", "echo ready; exec cat") as person:
        person.wait_for("ready")
        served.out("rm", "short-lived")
        person.wait_for("was destroyed")
        assert person.exit_code() == 4
