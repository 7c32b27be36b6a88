"""docs/api.md is what the table of operations says, and every call on it does what the page says it does."""

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.daemons import ROOT, Daemon, daemon

from bhatti.operations import examples
from bhatti.operations.openapi import errors_of
from bhatti.operations.operation import Operation, Streams
from bhatti.operations.table import ALL

PAGE = ROOT / "docs" / "api.md"
SOCKET = "/run/bhatti/bhatti.sock"

ORDER = {"sandbox.create": -2, "file.write": -1, "sandbox.destroy": 1, "volume.remove": 1}
"""What others need is made first, and what others need is removed last; the rest is in the order of the page."""

ELSEWHERE = frozenset({"image.build", "image.import", "image.pull", "task.start"})
"""Minutes of downloads: `tests/conformance` makes images, and the types of these calls are checked with the others'."""

NOT_HERE = frozenset(
    {
        "sandbox.fork",
        "checkpoint.create",
        "checkpoint.list",
        "checkpoint.restore",
        "checkpoint.remove",
        "snapshot.verify",
        "forward",
        "session.kill",
        "image.get",
        "image.remove",
        "task.get",
        "task.wait",
        "task.cancel",
    }
)
"""What these need (an engine with memory snapshots, a session, an image, a database, a task) is not here: they are
refused in words that the page has. `tests/server` does them in virtual machines."""


def calls() -> dict[str, tuple[str, str]]:
    """Return the language and text of each operation's example, from the page itself."""
    sections = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        block = re.search(r"^```(sh|python)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        if block is not None:
            found[section.partition("\n")[0]] = (block[1], block[2])
    return found


CALLS = calls()


def test_every_operation_has_a_call() -> None:
    assert set(CALLS) == {operation.name for operation in ALL}


class Index(BaseHTTPRequestHandler):
    """The server inside the sandbox that the proxy's example asks."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"served from inside")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def served() -> Iterator[Daemon]:
    with daemon(BHATTI_GATEWAY_LISTEN="127.0.0.1:0") as found:
        yield found


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def workspace(served: Daemon) -> Iterator[Path]:
    """What is a directory of the guest on the page; here the guest's paths are those of the host."""
    path = served.directory / "workspace"
    path.mkdir()
    yield path
    shutil.rmtree(path)


RUN = sorted((o for o in ALL if o.name not in ELSEWHERE), key=lambda operation: ORDER.get(operation.name, 0))


@pytest.mark.parametrize("operation", RUN, ids=lambda operation: operation.name)
def test_the_call_does_what_the_page_says(
    operation: Operation[Any, Any], served: Daemon, port: int, workspace: Path
) -> None:
    language, text = CALLS[operation.name]
    text = text.replace(SOCKET, f"{served.directory}/run/bhatti.sock").replace("/workspace", str(workspace))
    text = text.replace("/proxy/8000/", f"/proxy/{port}/")
    if language == "python":
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "hello" in done.stdout or "exit" in done.stdout
        return
    # Streams that never end by themselves are looked at for a moment.
    text = text.replace("curl ", "curl --silent --show-error --max-time 15 --write-out '\\n%{http_code}' ", 1)
    answer = subprocess.run(["sh", "-c", text], capture_output=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
    body, _, status = answer.stdout.rpartition(b"\n")
    if operation.name in NOT_HERE or operation.name not in examples.EXAMPLES:
        assert int(status) in {operation.status, *errors_of(operation)}, body
        return
    assert int(status) == operation.status, body
    if operation.result is not None and operation.streams is not Streams.DOWNLOAD:
        msgspec.json.decode(body, type=operation.result)
    if operation.name == "proxy":
        assert body == b"served from inside"
    if operation.name == "file.read":
        assert body == b"two\n"
