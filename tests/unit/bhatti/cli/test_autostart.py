import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.daemons import LOCAL, ROOT
from tests.serving import short_directory

from bhatti.cli import autostart
from bhatti.daemon.lock import holder
from bhatti.errors import InvalidRequest, Unavailable
from bhatti.operations import table
from bhatti.operations.types import Health
from bhatti.sdk.client import Client
from bhatti.sdk.endpoint import Endpoint


@pytest.fixture
def state(environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory that no daemon has; whoever gets it by the end is ended."""
    with short_directory() as directory:
        monkeypatch.setenv("BHATTI_STATE_DIR", str(directory / "state"))
        monkeypatch.setenv("BHATTI_ENGINE", LOCAL)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        with click.Context(click.Command("x")):
            yield directory / "state"
        pid = holder(directory / "state" / "daemon.lock")
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)


def test_a_daemon_is_started_when_there_is_none_and_said_so(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    client = autostart.client_of_running_daemon()
    assert client.call(table.HEALTH).status == "ok"
    told = capfd.readouterr().err
    pid = holder(state / "daemon.lock")
    assert told == f"bhatti: no daemon is running; started one (pid {pid}, log {state}/daemon.log)\n"
    assert (state / "daemon.log").stat().st_mode & 0o777 == 0o600
    assert pid is not None
    assert os.getsid(pid) == pid, "a Ctrl-C at our terminal is not for it"
    again = autostart.client_of_running_daemon()
    assert again.call(table.VERSION).pid == pid
    assert capfd.readouterr().err == ""


def test_a_daemon_that_cannot_start_says_why(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BHATTI_ENGINE", "vmware")
    with pytest.raises(InvalidRequest) as caught:
        autostart.client_of_running_daemon()
    assert caught.value.code == "unknown-engine"


def test_a_daemon_that_dies_without_a_word_is_told_with_its_log(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unavailable, match="ended before it served") as caught:
        autostart.start()
    assert f"{state}/daemon.log" in (caught.value.hint or "")


def test_another_daemon_than_ones_own_is_not_started(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BHATTI_URL", "unix:///nowhere/bhatti.sock")
    with pytest.raises(Unavailable) as caught:
        autostart.client_of_running_daemon()
    assert caught.value.code == "daemon-not-running"
    assert not state.exists()


def test_two_at_once_start_one(state: Path) -> None:
    autostart.start()
    autostart.start()  # finds that somebody was quicker, and is content
    pid = holder(state / "daemon.lock")
    with Client(Endpoint(path=f"{state}/run/bhatti.sock")) as client:
        assert client.call(table.VERSION).pid == pid


def test_waiting_ends_with_what_is_the_matter(state: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        autostart.wait_until_ready(Client(Endpoint(path=f"{state}/run/bhatti.sock")), 0.1)
    assert caught.value.code == "daemon-not-running"


def test_waiting_waits(state: Path) -> None:
    thread = threading.Timer(0.1, autostart.start)
    thread.start()
    began = time.monotonic()
    client = Client(Endpoint(path=f"{state}/run/bhatti.sock"))
    autostart.wait_until_ready(client, 20)
    client.close()
    thread.join()
    assert time.monotonic() - began > 0.1


def test_a_daemon_that_starts_for_ever_is_told_as_such(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Starting(Client):
        def call(self, *arguments: object, **more: str) -> object:  # type: ignore[override]
            return Health(status="starting", sandboxes=0, uptime=1.0)

    with pytest.raises(Unavailable) as caught:
        autostart.wait_until_ready(Starting(Endpoint(path="/x")), 0.1)
    assert caught.value.code == "starting"
