"""A published port against a daemon in a process of its own, which is killed."""

import json
import signal
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.daemons import daemon


class Page(BaseHTTPRequestHandler):
    """A web server in the sandbox, which with this engine is one of the host."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.path} for {self.headers['X-Forwarded-Host']}".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_it_outlives_a_killed_daemon_and_wakes_a_sandbox_that_slept_through_that(port: int) -> None:
    with daemon(BHATTI_GATEWAY_LISTEN="127.0.0.1:0", BHATTI_DETECT_BLOCKING="true") as served:
        served.out("create", "one")
        before = json.loads(served.out("publish", "one", str(port), "--alias", "page", "--json"))
        served.out("stop", "one")
        served.stop(signal.SIGKILL)
        served.start()
        (after,) = json.loads(served.out("publish", "--json"))
        assert (after["id"], after["alias"], after["port"]) == (before["id"], "page", port)
        with urllib.request.urlopen(f"{after['url']}x?y", timeout=60) as answer:
            assert answer.read().decode() == f"/x?y for {after['url'].split('/')[2]}"
        assert json.loads(served.out("inspect", "one", "--json"))["status"] == "running"
