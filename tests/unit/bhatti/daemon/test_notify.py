import os
import socket
from pathlib import Path

import pytest

from bhatti.daemon.main import Ready
from bhatti.daemon.notify import notify


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_who_waits_is_told_once(kind: str, directory: Path) -> None:
    name = str(directory / "n") if kind == "path" else f"@bhatti-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        manager.settimeout(60)
        env = {"NOTIFY_SOCKET": name}
        notify("READY=1", env)
        assert manager.recv(100) == b"READY=1"
        assert env == {}


@pytest.mark.parametrize("name", ["", "relative", "/nobody/there", "@nobody-there"])
def test_nobody_is_told_nothing(name: str) -> None:
    notify("READY=1", {"NOTIFY_SOCKET": name})


def test_a_daemon_that_serves_says_so(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "n"))
        manager.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(directory / "n"))
        Ready(None)()
        assert manager.recv(100) == b"READY=1"
