"""The session that the README shows, typed by somebody whose sandboxes are processes of this machine."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.daemons import ROOT, Daemon, daemon

SESSION = re.findall(r"^```console\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)[0]

ELSEWHERE = ("bhatti shell", "bhatti forward", "export PATH")
"""What needs a terminal, or goes on until it is interrupted (`tests/docs/test_help_examples.py`), or is done here."""


@pytest.fixture
def person() -> Iterator[Daemon]:
    with daemon(BHATTI_GATEWAY_LISTEN="127.0.0.1:0") as found:
        programs = found.directory / "bin"
        programs.mkdir()
        (programs / "bhatti").write_text(f'#!/bin/sh\nexec {sys.executable} -m bhatti "$@"\n')
        (programs / "bhatti").chmod(0o755)
        found.env["PATH"] = f"{programs}:{found.env['PATH']}"
        found.env["TOKEN"] = "ghp_example"
        (found.directory / "src").mkdir()
        yield found


def test_everything_that_is_typed_works(person: Daemon) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]  # 8000 may be somebody else's
    typed = [line[2:] for line in SESSION.splitlines() if line.startswith("$ ") and not line[2:].startswith(ELSEWHERE)]
    assert len(typed) >= 15
    command = ["bash", "-ex", "-o", "pipefail", "-c", "\n".join(typed).replace("8000", str(port))]
    done = subprocess.run(
        command, env=person.env, cwd=person.directory, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^http://127\.0\.0\.1:\d+/p/agent-1/$", done.stdout, re.MULTILINE)
