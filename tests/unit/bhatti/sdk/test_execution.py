"""The relay of a command, as a process with pipes: its own descriptors are what it is about."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.daemons import ROOT, Daemon
from tests.unit.bhatti.sdk.test_connection import says, server

from bhatti.errors import GuestFailure, NotFound, Unavailable
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.execution import STDERR, STDOUT, Execution, told

RUN = """
import json, sys
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.execution import Execution
execution = Execution(Endpoint(path=sys.argv[1]), "one", json.loads(sys.argv[2]))
sys.exit(execution.run(stdin=None if "--no-stdin" in sys.argv else 0))
"""


def started(served: Daemon, *cmd: str, no_stdin: bool = False, **pipes: int) -> "subprocess.Popen[bytes]":
    import json

    command = [sys.executable, "-c", RUN, served.endpoint.path, json.dumps({"cmd": cmd})]
    given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes}
    return subprocess.Popen([*command, "--no-stdin"] if no_stdin else command, cwd=ROOT, **given)  # type: ignore[call-overload, no-any-return]


def test_output_input_and_exit_code_are_the_commands(served: Daemon) -> None:
    process = started(served, "sh", "-c", "cat; echo err >&2; exit 42")
    out, err = process.communicate(b"typed \0\xff", timeout=60)
    assert (out, err, process.returncode) == (b"typed \0\xff", b"err\n", 42)


def test_much_goes_through_both_ways_at_once(served: Daemon) -> None:
    data = os.urandom(8 << 20)
    process = started(served, "cat")
    out, _ = process.communicate(data, timeout=60)
    assert out == data


def test_without_input_the_command_has_none_and_ours_is_left_alone(served: Daemon) -> None:
    process = started(served, "cat", no_stdin=True)
    assert process.wait(60) == 0
    with process:
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_and_shows_in_the_exit_code(served: Daemon, number: signal.Signals) -> None:
    with started(served, "sh", "-c", "echo $$; sleep 60") as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_reader_who_leaves_ends_the_command_as_in_any_pipeline(served: Daemon) -> None:
    with started(served, "sh", "-c", "echo $$; yes") as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.stdout.close()
        assert process.wait(60) == 128 + signal.SIGPIPE
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_command_that_does_not_read_its_input_is_waited_for(served: Daemon) -> None:
    with Path("/dev/zero").open("rb") as endless:
        process = started(served, "sh", "-c", "exit 5", stdin=endless.fileno())
        process.communicate(timeout=60)
    assert process.returncode == 5


def test_output_can_be_kept(served: Daemon) -> None:
    execution = Execution(served.endpoint, "one", {"cmd": ["sh", "-c", "echo a; echo b >&2; exit 3"]})
    kept = {STDOUT: bytearray(), STDERR: bytearray()}
    execution.collect(kept)
    assert execution.run(stdin=None) == 3
    assert (bytes(kept[STDOUT]), bytes(kept[STDERR]), execution.reason) == (b"a\n", b"b\n", "exited")


def test_what_the_daemon_refuses_is_raised(served: Daemon) -> None:
    with pytest.raises(NotFound) as missing:
        Execution(served.endpoint, "nobody", {"cmd": ["true"]}).run(stdin=None)
    assert missing.value.code == "sandbox-not-found"
    with pytest.raises(GuestFailure) as failure:
        Execution(served.endpoint, "one", {"cmd": ["no-such-command"]}).run(stdin=None)
    assert failure.value.code == "command-not-found"
    with pytest.raises(Unavailable):
        Execution(Endpoint(path="/nowhere"), "one", {"cmd": ["true"]}).run(stdin=None)


def test_a_connection_that_is_lost_is_told() -> None:
    with server(says(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")) as endpoint, pytest.raises(Unavailable) as caught:
        Execution(endpoint, "one", {"cmd": ["true"]}).run(stdin=None)
    assert caught.value.code == "connection-lost"


def test_an_error_that_says_little_is_an_error_all_the_same() -> None:
    assert str(told({})) == "no reason given"
