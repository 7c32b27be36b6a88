"""The served document against the daemon that serves it: whatever a client that believes it sends, valid or not, is
answered as it says.

schemathesis makes the requests up: every operation, every parameter at and beyond its bounds, wrong types, missing and
unknown fields, other methods and other types of content.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from tests.engines import local
from tests.privileges import in_chroot
from tests.serving import Served, serving, short_directory

pytestmark = [pytest.mark.anyio, pytest.mark.root]

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"

SHUT_IN = """
mount --bind "$(dirname "$PWD")" "$(dirname "$PWD")" && mount -o remount,bind,ro / && cd "$PWD" && exec "$@"
"""
"""The agent of the test engine works on the host's own files, as root, and is told to do anything: all of them but its
own directory are read-only to it."""

NOT_TRIED = r"image\.(build|import|pull)|task\.start|sandbox\.destroy|proxy\..*"
"""Minutes of downloads; the end of what the other operations need; what somebody else answers."""

HOOKS = Path(__file__).with_name("made_up_requests.py")

CHECKS = ",".join(
    [
        "no_defect",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "unsupported_method",
    ]
)

MAX_S = 45


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """A daemon with a sandbox, by the name that the document's examples have."""
    if os.geteuid() != 0 or in_chroot():
        pytest.skip("shutting the agent in needs root, and a / that can be remounted")
    shut_in = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SHUT_IN, "sh", *local.PROGRAMS["base"]]
    monkeypatch.setitem(local.PROGRAMS, "base", shut_in)
    with short_directory() as directory:
        async with serving(directory) as found:
            await found.create("agent-1")
            yield found


@contextlib.asynccontextmanager
async def relayed(served: Served) -> AsyncIterator[str]:
    """Carry a TCP port to the daemon's unix socket, for a program that knows no such; give the URL.

    It is then the administrator: neither keys nor rates hide what the operations do.
    """

    async def relay(caller: SocketStream) -> None:
        daemon = await anyio.connect_unix(served.settings.socket)
        async with caller, daemon, anyio.create_task_group() as both:
            both.start_soon(pump, caller, daemon, both.cancel_scope)
            both.start_soon(pump, daemon, caller, both.cancel_scope)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, relay)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


async def pump(source: ByteStream, target: ByteStream, both: anyio.CancelScope) -> None:
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            await target.send(await source.receive())
    both.cancel()


@pytest.mark.timeout(MAX_S * 3)
async def test_the_daemon_does_what_its_document_says(served: Served, tmp_path: Path) -> None:
    async with relayed(served) as url:
        command = [str(SCHEMATHESIS), "run", f"{url}/openapi.json", "--no-color", "--checks", CHECKS]
        command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "8", "--max-time", str(MAX_S)]
        command += ["--seed", "1", "--request-timeout", "10", "--generation-database", "none", "--warnings", "off"]
        command += ["--continue-on-failure", "--output-truncate", "false", "--exclude-operation-id-regex", NOT_TRIED]
        environment = {**os.environ, "PYTHONPATH": str(HOOKS.parent), "SCHEMATHESIS_HOOKS": HOOKS.stem}
        done = await anyio.run_process(command, check=False, cwd=tmp_path, stderr=subprocess.STDOUT, env=environment)
    assert done.returncode == 0, done.stdout.decode(errors="replace")
