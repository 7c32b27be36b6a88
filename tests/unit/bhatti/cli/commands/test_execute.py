import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.daemons import Daemon, error_of
from tests.terminals import screen
from tests.unit.bhatti.cli.conftest import Bhatti


@pytest.mark.parametrize("code", [0, 1, 2, 42, 125, 126, 127, 255])
def test_the_exit_code_is_the_commands_own(bhatti: Bhatti, code: int) -> None:
    assert bhatti("exec", "-n", "one", "--", "sh", "-c", f"exit {code}").code == code
    assert bhatti("run", "-n", "--", "sh", "-c", f"exit {code}").code == code


def test_who_starts_a_shell_at_a_terminal_is_told_that_there_is_no_prompt(served: Daemon) -> None:
    command = (sys.executable, "-m", "bhatti", "exec", "one", "sh")
    with screen(*command, env=served.env, cwd=str(served.directory)) as (person, process):
        person.wait_for(b"sh has no terminal here and shows no prompt; `bhatti shell NAME` opens one")
        person.type(b"exit 3\n")
        assert process.wait(60) == 3
    assert served.bhatti("exec", "one", "sh", stdin=b"exit 3\n").stderr == b""


def test_environment_directory_and_user_are_passed(bhatti: Bhatti) -> None:
    done = bhatti("exec", "-n", "-e", "A=1", "one", "--env", "B=2", "--cwd", "/tmp", "--", "sh", "-c", "echo $A$B; pwd")
    assert done.out == "12\n/tmp\n"
    assert bhatti("exec", "-n", "-u", "nobody-at-all", "one", "--", "true").code == 1


def test_a_command_that_takes_too_long_is_ended_and_said_so(bhatti: Bhatti) -> None:
    done = bhatti("exec", "-n", "-t", "0.1", "one", "--", "sleep", "60")
    assert (done.code, done.err) == (137, "bhatti: ended after 0.1 s\n")


def test_everything_can_be_had_as_json(bhatti: Bhatti) -> None:
    for verb in (["exec", "-n", "--json", "one"], ["run", "-n", "--json"]):
        done = bhatti(*verb, "--", "sh", "-c", "echo out; echo err >&2; exit 3")
        assert done.code == 3
        assert done.json()["stdout"] == "out\n"
        assert done.json()["stderr"] == "err\n"
        assert (done.json()["exit_code"], done.json()["reason"]) == (3, "exited")


def test_a_detached_command_is_told_by_pid_and_file(bhatti: Bhatti) -> None:
    pid, file = bhatti("exec", "-d", "one", "--", "sleep", "60").out.split()
    os.kill(int(pid), signal.SIGKILL)
    Path(file).unlink()
    left = bhatti("exec", "-d", "--json", "one", "--", "true").json()
    assert left["detached"] is True
    Path(left["output_file"]).unlink()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["exec", "one"], 2),
        (["exec"], 2),
        (["run"], 2),
        (["exec", "-n", "one", "--", "no-such-command"], 127),
        (["exec", "-n", "one", "--", "/etc/passwd"], 126),
        (["run", "-n", "--", "no-such-command"], 127),
        (["exec", "-n", "one", "--cwd", "/no/such", "--", "true"], 4),
        (["exec", "-n", "nobody", "--", "true"], 4),
        (["run", "-n", "--image", "missing", "--", "true"], 4),
        (["run", "-n", "--cpus", "0", "--", "true"], 2),
        (["run", "-n", "--name", "one", "--", "true"], 5),
    ],
)
def test_what_cannot_be_run_is_told_and_leaves_nothing(bhatti: Bhatti, arguments: list[str], code: int) -> None:
    done = bhatti(*arguments)
    assert done.code == code
    assert done.err.startswith("bhatti: ")
    assert "hint: " in done.err
    assert [found["name"] for found in bhatti("ls", "--json").json()] == ["one"]


def test_input_flows_in_and_output_out(served: Daemon) -> None:
    data = bytes(range(256)) * 1000
    assert served.out("exec", "one", "--", "cat", stdin=data) == data
    assert served.out("run", "--", "sha256sum", stdin=data).split()[0]


def test_a_closed_input_is_no_input(served: Daemon) -> None:
    with served.popen("exec", "one", "--", "cat", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.communicate(timeout=60)[0] == b""
    assert process.returncode == 0


def test_a_kept_sandbox_stays_and_is_named(bhatti: Bhatti) -> None:
    done = bhatti("run", "-n", "--keep", "--name", "kept", "--", "true")
    assert (done.code, done.err) == (0, "kept: kept\n")
    assert bhatti("rm", "kept").code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_throw_away_sandbox_is_removed_whatever_the_signal(served: Daemon, number: signal.Signals) -> None:
    with served.popen("run", "--", "sh", "-c", "echo up; sleep 60", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert names(served) == ["one"]


def test_a_signal_during_creation_leaves_no_sandbox(served: Daemon) -> None:
    env = {**served.env, "PYTHONUNBUFFERED": "1"}
    with served.popen("run", "--image", "silent", "--", "true", stderr=subprocess.PIPE, env=env) as process:
        while len(names(served)) < 2 and process.poll() is None:
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) != 0
    while len(names(served)) > 1:
        pass
    assert names(served) == ["one"]


def test_a_sandbox_that_cannot_be_removed_is_told(served: Daemon) -> None:
    with served.popen(
        "run", "--name", "doomed", "--", "sh", "-c", "echo up; read x", stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"up\n"
        served.out("rm", "doomed")  # somebody else was quicker: that is fine
        _, told = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"left behind" not in told
    assert names(served) == ["one"]


def test_errors_are_json_for_programs(served: Daemon) -> None:
    assert error_of(served.bhatti("exec", "--json", "nobody", "--", "true")) == (4, "sandbox-not-found")
    assert error_of(served.bhatti("run", "--json", "--image", "missing", "--", "true")) == (4, "image-not-found")


def names(served: Daemon) -> list[str]:
    return [found["name"] for found in json.loads(served.out("ls", "--json"))]
