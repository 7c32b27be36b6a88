"""What goes wrong before, around and behind a command: each time an error with code, hint and exit code."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.daemons import Daemon, error_of
from tests.serving import short_directory


@pytest.fixture
def nobody() -> Iterator[Daemon]:
    """The command line of somebody whose daemon does not run."""
    with short_directory() as directory:
        yield Daemon(directory)


def left(daemon: Daemon) -> list[str]:
    """What there is in the state directory beside logs and locks."""
    return sorted({path.name for path in daemon.directory.iterdir()} - {"daemon.log", "daemon.lock", "run"})


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls"],
        ["inspect", "x"],
        ["rm", "x"],
        ["exec", "x", "--", "true"],
        ["ps", "x"],
        ["file", "read", "x", "/y"],
        ["file", "ls", "x", "/y"],
        ["file", "write", "x", "/y"],
    ],
)
def test_without_a_daemon_it_is_said_how_to_start_one(nobody: Daemon, arguments: list[str]) -> None:
    done = nobody.bhatti(*arguments)
    assert done.returncode == 69
    assert done.stderr.decode().splitlines() == [
        f"bhatti: no daemon is running at unix://{nobody.directory}/run/bhatti.sock",
        "hint: start one: `bhatti serve`; without one, `bhatti create` and `bhatti run` start it in the background",
    ]
    assert left(nobody) == []


@pytest.mark.parametrize(
    ("settings", "exit_code", "code"),
    [
        ({"BHATTI_ENGINE": "qemu", "BHATTI_QEMU_BINARY": "/nonexistent/qemu"}, 71, "qemu-missing"),
        ({"BHATTI_ENGINE": "vmware"}, 2, "unknown-engine"),
        ({"BHATTI_LOG_LEVEL": "loud"}, 2, "bad-setting"),
        ({"BHATTI_URL": "nowhere"}, 2, "bad-url"),
        ({"BHATTI_URL": "unix:///nowhere/bhatti.sock"}, 69, "daemon-not-running"),
        ({"BHATTI_URL": "http://127.0.0.1:1"}, 69, "daemon-not-running"),
    ],
)
def test_a_daemon_that_cannot_start_says_why_and_leaves_nothing(
    nobody: Daemon, settings: dict[str, str], exit_code: int, code: str
) -> None:
    for arguments in (["run", "--json", "--", "true"], ["create", "--json"]):
        assert error_of(nobody.bhatti(*arguments, env=settings)) == (exit_code, code)
    assert set(left(nobody)) <= {"state.db", "sandboxes", "accelerator.json"}
    assert not Path(nobody.endpoint.path).exists()


def served_error(nobody: Daemon) -> str:
    """Run `bhatti serve`, which must refuse, and return what it said."""
    done = nobody.bhatti("serve")
    assert done.returncode not in (0, 1)
    text = done.stderr.decode()
    assert "Traceback" not in text
    assert "hint: " in text
    return f"{done.returncode} {text}"


def test_a_taken_socket_is_left_to_its_owner(nobody: Daemon) -> None:
    (nobody.directory / "run").mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as other:
        other.bind(nobody.endpoint.path)
        other.listen()
        assert served_error(nobody).startswith(f"5 bhatti: another process listens on {nobody.endpoint.path}")


def test_a_stale_socket_is_no_obstacle(nobody: Daemon) -> None:
    (nobody.directory / "run").mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(nobody.endpoint.path)
    nobody.start()
    assert nobody.out("ls", "--json") == b"[]\n"
    nobody.stop()


def test_a_damaged_store_is_told_and_not_touched(nobody: Daemon) -> None:
    (nobody.directory / "state.db").write_bytes(b"rubbish" * 1000)
    told = served_error(nobody)
    assert told.startswith("65 ")
    assert "bhatti: the store" in told
    assert (nobody.directory / "state.db").read_bytes() == b"rubbish" * 1000


def test_a_directory_that_cannot_be_used_is_told(nobody: Daemon) -> None:
    (nobody.directory / "file").write_text("")
    nobody.env["BHATTI_STATE_DIR"] = f"{nobody.directory}/file/state"
    assert "cannot be made" in served_error(nobody)
    assert error_of(nobody.bhatti("run", "--json", "--", "true"))[0] != 0


def test_a_path_that_is_too_long_for_a_socket_is_told(nobody: Daemon) -> None:
    nobody.env["BHATTI_RUNTIME_DIR"] = f"{nobody.directory}/{'x' * 100}"
    assert served_error(nobody).startswith("2 bhatti: the socket path")


def test_a_configuration_file_with_a_mistake_is_named(nobody: Daemon) -> None:
    path = nobody.directory / ".config" / "bhatti" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("[defaults]\nmemroy_mb = 5\n")
    told = served_error(nobody)
    assert str(path) in told
    assert "did you mean 'defaults.memory_mb'?" in told


def test_a_daemon_that_is_frozen_can_be_interrupted(nobody: Daemon) -> None:
    nobody.start()
    assert nobody.process is not None
    os.kill(nobody.process.pid, 19)
    with nobody.popen("ls", stderr=subprocess.PIPE) as caller:
        time.sleep(0.3)  # it waits for the answer by now, or will soon; either way it must end
        caller.send_signal(2)
        assert caller.wait(60) in (130, -2)
        assert caller.stderr is not None
        assert b"Traceback" not in caller.stderr.read()
    os.kill(nobody.process.pid, 18)
    nobody.stop()


def test_a_daemon_that_dies_in_the_middle_is_told(nobody: Daemon) -> None:
    nobody.start()
    made = json.loads(nobody.out("create", "one", "--json"))
    with nobody.popen("exec", "one", "--", "sh", "-c", "echo up; sleep 60", stdout=-1, stderr=-1) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"up\n"
        assert nobody.process is not None
        nobody.process.kill()
        nobody.process.wait()
        _, told = caller.communicate(timeout=60)
    assert caller.returncode == 69
    assert b"connection was lost" in told
    assert b"hint: " in told
    nobody.start()
    nobody.out("rm", made["id"])
    nobody.stop()


def test_a_full_disk_is_told_with_its_exit_code(nobody: Daemon) -> None:
    nobody.start()
    done = nobody.bhatti("create", "one", "--image", "full")
    assert done.returncode == 74
    assert b"hint: " in done.stderr
    nobody.stop()
