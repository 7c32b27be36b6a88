import json
import os
import signal
import subprocess
import sys

import pytest
from tests.daemons import Daemon, error_of
from tests.serving import short_directory
from tests.unit.bhatti.cli.conftest import Bhatti

from bhatti.cli.commands import serve as module


def test_options_become_settings_of_the_daemon(bhatti: Bhatti, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(module.os, "execv", lambda path, command: became.append(command))  # type: ignore[attr-defined]
    bhatti("serve", "--engine", "qemu", "--stop-all", "--log-format", "json", "--set", "defaults.cpus=2")
    (command,) = became
    assert command[:4] == [sys.executable, "-m", "bhatti.daemon", "serve"]
    settings = command[5::2]
    assert settings == ["defaults.cpus=2", "engine=qemu", "log_format=json", "stop_all=true"]


def test_json_is_a_log_for_programs_and_an_error_in_it() -> None:
    with short_directory() as directory:
        daemon = Daemon(directory)
        (directory / "run").write_text("in the way of its socket")
        for arguments in (["--set", "no.such=thing"], []):
            done = daemon.bhatti("serve", "--json", *arguments)
            assert done.returncode not in (0, 1)
            (*_, last) = map(json.loads, done.stderr.splitlines())
            assert last["error"]
            assert last["code"]


def test_the_daemon_takes_the_place_of_the_command() -> None:
    with short_directory() as directory:
        daemon = Daemon(directory)
        with daemon.popen("serve", stderr=subprocess.PIPE) as process:
            daemon.out("version", "--wait", "20")
            assert f'"pid":{process.pid}'.encode() in daemon.out("version", "--json")
            second = daemon.bhatti("serve")
            assert second.returncode == 5
            assert f"already running with the state directory {directory}, pid {process.pid}" in second.stderr.decode()
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(60) == 0
        assert error_of(daemon.bhatti("ls", "--json")) == (69, "daemon-not-running")
