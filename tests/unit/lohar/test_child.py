import os
import signal

import pytest
from tests.unit.lohar.serving import Serving

from lohar import child as child_module
from lohar.child import Child
from lohar.processes import session_members
from lohar.wire.messages import ExecRequest, ExitReason, OomKill


def start(serving: Serving, script: str, **options: object) -> Child:
    return serving.agent.commands.start(ExecRequest(argv=("sh", "-c", script), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("script", "code", "reason", "number"),
    [
        ("exit 0", 0, ExitReason.EXITED, None),
        ("exit 7", 7, ExitReason.EXITED, None),
        ("kill -TERM $$", 143, ExitReason.SIGNALLED, signal.SIGTERM),
    ],
)
def test_an_end_of_its_own_is_told_as_it_was(
    serving: Serving, script: str, code: int, reason: ExitReason, number: int | None
) -> None:
    seen: list[Child] = []
    child = start(serving, script)
    child.on_exit = seen.append
    assert (child.running, child.code) == (True, 0)
    serving.turn_until(lambda: seen)
    assert (child.code, child.reason, child.exit_info().signal) == (code, reason, number)


def test_a_limit_kills_and_says_so(serving: Serving) -> None:
    child = start(serving, "sleep 60", timeout_sec=0.05)
    serving.turn_until(lambda: not child.running)
    assert (child.code, child.reason) == (137, ExitReason.TIMEOUT)


def test_a_limit_that_was_not_reached_does_nothing(serving: Serving) -> None:
    child = start(serving, "exit 0", timeout_sec=0.2)
    serving.turn_until(lambda: not child.running)
    assert child.reason is ExitReason.EXITED
    assert child._timers == []


def test_the_first_reason_counts(serving: Serving) -> None:
    child = start(serving, "sleep 60")
    child.kill(ExitReason.KILLED)
    child.kill(ExitReason.HOST_LOST)
    serving.turn_until(lambda: not child.running)
    assert child.reason is ExitReason.KILLED
    child.kill(ExitReason.HOST_LOST)
    child.signal(signal.SIGKILL)
    assert child.reason is ExitReason.KILLED, "it has ended; there is nothing to kill"


def test_jobs_in_groups_of_their_own_are_killed_with_their_shell(serving: Serving) -> None:
    child = start(serving, "set -m; sleep 60 & sleep 60 & wait")
    serving.turn_until(lambda: len(session_members(child.pid)) == 3)
    child.kill(ExitReason.KILLED)
    serving.turn_until(lambda: not child.running and not session_members(child.pid))


def test_asked_to_end_it_may_say_good_bye(serving: Serving) -> None:
    reader, writer = os.pipe()
    command = ExecRequest(
        argv=("sh", "-c", "trap 'exit 3' TERM; trap '' HUP; echo ready; while :; do sleep 0.02; done")
    )
    child = serving.agent.commands.start(command, [(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.close(writer)
    assert os.read(reader, 10) == b"ready\n"
    os.close(reader)
    child.ask_to_end(ExitReason.KILLED)
    serving.turn_until(lambda: not child.running)
    assert (child.code, child.reason) == (3, ExitReason.KILLED)


def test_what_does_not_listen_is_killed(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "GRACE_S", 0.05)
    child = start(serving, "trap '' TERM HUP; while :; do sleep 0.02; done")
    child.ask_to_end(ExitReason.KILLED)
    serving.turn_until(lambda: not child.running)
    assert child.code in (137, 143, 129), "killed, or asked before it could set its traps"


def test_want_of_memory_is_a_reason_unless_we_have_killed_it(serving: Serving) -> None:
    oom = OomKill(victim="sleep", pid=1)
    child = start(serving, "kill -KILL $$")
    serving.turn_until(lambda: not child.running)
    child.ran_out_of_memory(oom)
    assert (child.reason, child.exit_info().oom) == (ExitReason.OOM, oom)
    child = start(serving, "sleep 60")
    child.kill(ExitReason.KILLED)
    serving.turn_until(lambda: not child.running)
    child.ran_out_of_memory(oom)
    assert child.reason is ExitReason.KILLED
