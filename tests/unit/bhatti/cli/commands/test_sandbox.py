import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemons import Daemon
from tests.unit.bhatti.cli.conftest import Bhatti


@pytest.fixture
def name(bhatti: Bhatti) -> Iterator[str]:
    """A name that is free, for a sandbox that is gone afterwards."""
    yield "two"
    bhatti("rm", "-f", "two", "-q")


def test_a_created_sandbox_is_told_by_id_name_and_address(bhatti: Bhatti, name: str) -> None:
    done = bhatti("create", name, "--cpus", "1", "--memory", "256", "--disk", "1G", "-e", "A=b", "--user", "root")
    assert done.code == 0
    made, called, address = done.out.rstrip("\n").split("\t")
    assert (called, address) == (name, "127.0.0.1")
    shown = bhatti("inspect", made[:8], "--json").json()
    assert (shown["id"], shown["memory_mb"], shown["disk_size_mb"]) == (made, 256, 1024)


def test_create_answers_with_the_id_alone_or_all_there_is(bhatti: Bhatti, name: str) -> None:
    made = bhatti("create", "--name", name, "-q")
    assert len(made.out.strip()) == 16
    bhatti("rm", name)
    shown = bhatti("create", name, "--json").json()
    assert (shown["name"], shown["status"], shown["accelerator"]) == (name, "running", "none")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (["one"], 5, "name-taken"),
        (["two words"], 2, "bad-name"),
        ([""], 2, "bad-name"),
        (["two", "--template", ""], 2, "bad-name"),
        (["two", "--name", "three"], 2, "invalid-request"),
        (["two", "--cpus", "0"], 2, "bad-cpus"),
        (["two", "--cpus", "99999"], 2, "bad-cpus"),
        (["two", "--memory", "0"], 2, "bad-memory"),
        (["two", "--memory", "999999999"], 2, "bad-memory"),
        (["two", "--disk", "0"], 2, "bad-disk"),
        (["two", "--env", "nonsense"], 2, "bad-environment"),
        (["two", "--image", "missing"], 4, "image-not-found"),
        (["two", "--image", "corrupt"], 65, "image-corrupt"),
        (["two", "--image", "full"], 74, "out-of-space"),
        (["two", "--image", "dies"], 73, "engine-failure"),
        (["two", "--image", "silent"], 70, "guest-timeout"),
        (["two", "--file", "nonsense"], 2, "invalid-request"),
        (["two", "--file", "/no/such:/x"], 2, "bad-file"),
        (["two", "--cpus", "many"], 2, "usage"),
        (["two", "--memory", "much"], 2, "usage"),
        (["two", "--colour"], 2, "usage"),
    ],
)
def test_what_cannot_be_made_is_told_with_a_code_and_leaves_nothing(
    bhatti: Bhatti, arguments: list[str], exit_code: int, code: str
) -> None:
    import json

    done = bhatti("create", *arguments, "--json")
    assert done.out == ""
    told = json.loads(done.err)
    assert (done.code, told["exit_code"], told["code"]) == (exit_code, exit_code, code)
    assert [found["name"] for found in bhatti("ls", "--json").json()] == ["one"]


def test_a_file_of_ours_is_put_in(bhatti: Bhatti, name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o600)
    assert bhatti("create", name, "--file", f"{tmp_path}/secret:/tmp/secret").code == 0


def test_the_list_is_for_people_for_scripts_and_for_programs(bhatti: Bhatti) -> None:
    lines = bhatti("ls").out.splitlines()
    assert lines[0].split() == ["NAME", "ID", "STATUS", "THERMAL", "IP", "IMAGE", "CPUS", "MEMORY", "AGE"]
    assert lines[1].split()[0] == "one"
    (shown,) = bhatti("ls", "--json").json()
    assert bhatti("ls", "-q").out == shown["id"] + "\n"


def test_inspect_shows_all_there_is(bhatti: Bhatti) -> None:
    shown = dict(line.split(None, 1) for line in bhatti("inspect", "one").out.splitlines())
    assert (shown["name"], shown["status"], shown["memory"]) == ("one", "running (hot)", "512 MiB")
    assert shown["agent"] == "1 ms"


def test_inspect_shows_how_it_died(bhatti: Bhatti, name: str) -> None:
    pid = int(bhatti("create", name, "--json").json()["engine_meta"]["pid"])
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    import select

    assert select.select([descriptor], [], [], 5)[0]
    os.close(descriptor)
    shown = bhatti("inspect", name).out
    assert "failed (cold)" in shown
    assert "exit: the agent ended with -9" in shown
    assert bhatti("exec", "-n", name, "--", "true").code == 5


def test_several_are_removed_at_once_and_a_failure_does_not_keep_the_rest(bhatti: Bhatti, name: str) -> None:
    bhatti("create", name)
    done = bhatti("rm", "nobody", name)
    assert (done.code, done.out) == (4, "two: destroyed\n")
    assert "there is no sandbox 'nobody'" in done.err
    assert bhatti("rm", "--force", "nobody", "--json").json() == {"nobody": "absent"}


def test_a_sandbox_is_put_to_sleep_and_woken(bhatti: Bhatti, name: str) -> None:
    bhatti("create", name)
    assert bhatti("stop", name).out == "stopped\n"
    assert "stopped (cold)" in bhatti("inspect", name).out
    assert bhatti("start", name).out.startswith("restored")
    assert bhatti("stop", name, "--json").json()["status"] == "stopped"
    assert bhatti("start", name, "--memory").out.startswith("restored")
    bhatti("stop", name, "--no-memory")
    assert bhatti("start", name, "--memory", "--json").code == 5
    assert bhatti("start", name, "--json").json()["status"] == "running"
    done = bhatti("start", name)
    assert (done.code, "possible now: destroy, stop" in done.err) == (5, True)


def test_removing_one_says_so(bhatti: Bhatti, name: str) -> None:
    bhatti("create", name)
    assert bhatti("rm", name).out == "destroyed\n"
    bhatti("create", name)
    assert bhatti("rm", name, "-q").out == ""


def test_a_destroyed_sandbox_is_told_as_such(bhatti: Bhatti, name: str) -> None:
    bhatti("create", name)
    bhatti("rm", name)
    done = bhatti("exec", "-n", name, "--", "true")
    assert done.code == 4
    assert "was destroyed" in done.err


def test_people_see_how_it_came_to_life(served: Daemon) -> None:
    import sys

    from tests.terminals import screen

    command = (sys.executable, "-m", "bhatti", "create", "seen")
    with screen(*command, env=served.env, cwd=str(served.directory)) as (person, process):
        person.wait_for(b"booted in 0.0 s, none")
        assert process.wait(60) == 0
    served.out("rm", "seen")
