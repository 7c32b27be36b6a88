"""The daemon is killed, at any moment: the next one finds what runs, finishes or undoes what was half done."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.daemons import Daemon

DEADLINE_S = 60.0


def kill(served: Daemon) -> None:
    assert served.stop(signal.SIGKILL) == -signal.SIGKILL


def query(served: Daemon, sql: str) -> list[tuple[str, ...]]:
    """Look into the store while somebody else has it open."""
    with closing(sqlite3.connect(f"file:{served.directory}/state.db?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def until(served: Daemon, sql: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the store answers `sql` with a row."""
    deadline = time.monotonic() + DEADLINE_S
    while not query(served, sql):
        assert process.poll() is None or time.monotonic() < deadline
        assert time.monotonic() < deadline


def listed(served: Daemon) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(served.out("ls", "--json"))
    return found


def check_nothing_lost_nothing_left(served: Daemon) -> None:
    """Rows, directories and processes tell the same story, and every sandbox that is listed works."""
    assert query(served, "SELECT * FROM intents") == []
    shown = listed(served)
    assert served.machines() == sorted(str(found["id"]) for found in shown)
    assert machines_of(served) == sorted(found["engine_meta"]["pid"] for found in shown)  # type: ignore[index]
    for found in shown:
        assert found["status"] == "running"
        assert served.out("exec", "-n", str(found["id"]), "--", "echo", "alive") == b"alive\n"


def machines_of(served: Daemon) -> list[str]:
    """Return the pids of all processes whose agent's socket is in this daemon's directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes()
            parent = (path.parent / "status").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if f"LOHAR_SOCK={served.directory}/m/".encode() in environment and "State:\tZ" not in parent:
            found.append(path.parent.name)
    return sorted(found)


def test_machines_that_run_are_taken_over(served: Daemon) -> None:
    before = [json.loads(served.out("create", name, "--json")) for name in ("one", "two")]
    kill(served)
    served.start()
    assert sorted(str(found["id"]) for found in listed(served)) == sorted(made["id"] for made in before)
    check_nothing_lost_nothing_left(served)


def test_a_machine_that_died_meanwhile_is_told_with_its_cause(served: Daemon) -> None:
    made = json.loads(served.out("create", "one", "--json"))
    kill(served)
    os.kill(int(made["engine_meta"]["pid"]), signal.SIGKILL)
    served.start()
    shown = json.loads(served.out("inspect", "one", "--json"))
    assert (shown["status"], shown["cause"]["kind"]) == ("failed", "exit")


def test_a_creation_under_way_is_undone(served: Daemon) -> None:
    with served.popen("create", "one", "--image", "mute", stderr=subprocess.PIPE) as caller:
        until(served, "SELECT * FROM intents WHERE kind='create'", caller)
        while not list((served.directory / "m").glob("*/machine.json")):
            assert caller.poll() is None
        kill(served)
        _, told = caller.communicate(timeout=60)
    assert caller.returncode == 69
    assert b"Traceback" not in told
    assert [status for (status,) in query(served, "SELECT status FROM sandboxes")] == ["creating"]
    served.start()
    assert listed(served) == []
    check_nothing_lost_nothing_left(served)
    served.out("create", "one")  # the name is free


DEAF = """
sh -c "trap '' TERM HUP; : > deaf; exec sleep 1000" > /dev/null 2>&1 &
until [ -e deaf ]; do sleep 0.1; done
"""
"""Leaves a program behind that does not end when it is asked to: the agent waits three seconds for it, and is waited
for."""


def test_a_destruction_under_way_is_finished(served: Daemon) -> None:
    served.out("create", "one")
    served.out("exec", "-n", "one", "--", "sh", "-c", DEAF)
    with served.popen("rm", "one", stderr=subprocess.PIPE) as caller:
        until(served, "SELECT * FROM intents WHERE kind='destroy'", caller)
        kill(served)
        caller.communicate(timeout=60)
    assert caller.returncode == 69
    served.start()
    assert listed(served) == []
    check_nothing_lost_nothing_left(served)


def test_a_destroyed_sandbox_stays_destroyed(served: Daemon) -> None:
    served.out("create", "one")
    served.out("rm", "one")
    kill(served)
    served.start()
    assert listed(served) == []
    assert served.bhatti("exec", "-n", "one", "--", "true").returncode == 4


def test_a_lost_store_does_not_cost_the_machines(served: Daemon) -> None:
    pid = int(json.loads(served.out("create", "one", "--json"))["engine_meta"]["pid"])
    kill(served)
    for path in served.directory.glob("state.db*"):
        path.rename(path.with_name("saved-" + path.name))
    served.start()
    assert listed(served) == []
    assert "is left alone: the store is new" in served.log
    os.kill(pid, 0)
    served.stop()
    for path in served.directory.glob("saved-*"):
        path.rename(path.with_name(path.name.removeprefix("saved-")))
    served.start()
    assert [found["name"] for found in listed(served)] == ["one"]


@pytest.mark.timeout(300)
def test_killed_at_any_moment_nothing_is_lost_and_nothing_left(served: Daemon) -> None:
    """Creates, destroys, forks and checkpoints go on; the daemon is killed after a random time, again and again."""
    chance = random.Random(20261122)
    served.env["BHATTI_URL"] = str(served.endpoint)  # or `create` would start a daemon of its own
    for round_number in range(8):
        shown = listed(served)
        workers = [served.popen("create", f"r{round_number}-{n}", stdout=-1, stderr=-1) for n in range(2)]
        workers += [served.popen("rm", str(found["id"]), stdout=-1, stderr=-1) for found in shown[:1]]
        for found in shown[1:2]:
            workers.append(served.popen("fork", str(found["id"]), f"f{round_number}", stdout=-1, stderr=-1))
            workers.append(served.popen("checkpoint", "create", str(found["id"]), "kept", stdout=-1, stderr=-1))
        time.sleep(chance.uniform(0.0, 0.5))  # the moment is the point of the test
        kill(served)
        for worker in workers:
            _, told = worker.communicate(timeout=60)
            assert b"Traceback" not in told
        served.start()
        check_nothing_lost_nothing_left(served)
