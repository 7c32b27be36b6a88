import os

import pytest
from tests.unit.lohar.isolated import run_isolated

from lohar.reaper import exit_code

SETUP = """
import os, signal, sys, time
from lohar.loop import Loop
from lohar.reaper import Reaper, become_subreaper, exit_code
loop = Loop()
reaper = Reaper(loop)
reaper.start()
def spawn(script):
    return os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ)
def turn_until(done):
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        loop.turn(1)
"""
"""In a process of its own: a reaper collects every child of its process, and would take those of other tests."""


def run(script: str) -> list[str]:
    return run_isolated(SETUP + script).splitlines()


@pytest.mark.parametrize(
    ("script", "expected"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_exit_codes_count_as_in_shells(script: str, expected: int) -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", script], {})
    assert exit_code(os.waitpid(pid, 0)[1]) == expected


def test_each_child_goes_to_whoever_watches_it() -> None:
    assert run(
        """
codes = {}
for code in range(20):
    pid = spawn(f"exit {code}")
    reaper.watch(pid, lambda status, code=code: codes.__setitem__(code, exit_code(status)))
assert reaper.watched == 20
turn_until(lambda: len(codes) == 20)
print(all(expected == code for expected, code in codes.items()), reaper.watched, reaper.orphans)
"""
    ) == ["True 0 0"]


def test_orphans_are_collected_without_taking_an_exit_code_away() -> None:
    assert run(
        """
print(become_subreaper())
seen = []
pid = spawn("for i in 1 2 3 4 5; do (sleep 0.05; exit 9) & done; exit 7")
reaper.watch(pid, lambda status: seen.append(exit_code(status)))
turn_until(lambda: seen and reaper.orphans == 5)
print(seen)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("nothing left to wait for")
"""
    ) == ["True", "[7]", "nothing left to wait for"]


def test_a_callback_that_fails_does_not_cost_the_others_their_answer() -> None:
    assert run(
        """
sys.stderr = open(os.devnull, "w")
seen = []
def fail(status):
    raise RuntimeError("broken on purpose")
for number in range(4):
    reaper.watch(spawn("exit 0"), fail if number == 0 else seen.append)
turn_until(lambda: len(seen) == 3)
print(seen)
"""
    ) == ["[0, 0, 0]"]


def test_other_signals_run_their_callback_in_the_loop_and_are_given_back() -> None:
    assert run(
        """
seen = []
reaper.on_signal(signal.SIGTERM, lambda: seen.append("asked to end"))
os.kill(os.getpid(), signal.SIGTERM)
turn_until(lambda: seen)
reaper.close()
print(seen, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL)
"""
    ) == ["['asked to end'] True True"]
