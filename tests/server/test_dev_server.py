"""A development server in a sandbox, used through the proxy: by curl, and by a WebSocket client as browsers have it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.daemons import Daemon, daemon
from websockets.sync.client import unix_connect

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
]

SERVER = """
import base64, hashlib, http.server, threading

changed, version = threading.Condition(), 0

class Dev(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/events":
            self.events()
        elif self.headers.get("Upgrade", "").lower() == "websocket":
            self.hot_reload()
        else:
            self.answer(b"<p>version %d" % version)

    def do_POST(self):
        global version
        self.rfile.read(int(self.headers["Content-Length"]))
        with changed:
            version += 1
            changed.notify_all()
        self.answer(b"changed")

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def news(self):
        told = version
        yield told
        while True:
            with changed:
                changed.wait_for(lambda: version > told)
                told = version
            yield told

    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for told in self.news():
            self.wfile.write(b"data: %d\\n\\n" % told)

    def hot_reload(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        threading.Thread(target=self.reload, daemon=True).start()
        while True:
            first, size = self.rfile.read(2)
            mask = self.rfile.read(4)
            said = bytes(byte ^ mask[i % 4] for i, byte in enumerate(self.rfile.read(size & 127)))
            self.wfile.write(bytes([first, len(said)]) + said)
            if first & 15 == 8:
                self.close_connection = True
                return

    def reload(self):
        news = self.news()
        next(news)
        self.frame(b"ready")
        self.frame(b"reload %d" % next(news))

    def frame(self, text):
        self.wfile.write(bytes([0x81, len(text)]) + text)

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dev)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@contextmanager
def dev_server(served: Daemon, python: str) -> Iterator[str]:
    """The server, as a command in the sandbox that ends with the block; gives the path to it."""
    running = served.popen("exec", "one", "--", python, "-c", SERVER, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert running.stdout is not None
    with running.stdout:
        try:
            yield f"/sandboxes/one/proxy/{int(running.stdout.readline())}"
        finally:
            running.terminate()
            running.wait(60)


def curl(served: Daemon, *arguments: str) -> list[str]:
    """The command that asks the daemon with curl."""
    *options, path = arguments
    return ["curl", "--silent", "--unix-socket", str(served.endpoint.path), *options, f"http://bhatti{path}"]


@pytest.mark.parametrize("where", ["on the host", "in a machine"])
def test_pages_events_and_hot_reload_go_through_the_proxy(where: str, request: pytest.FixtureRequest) -> None:
    if where == "in a machine":
        use(request.getfixturevalue("virtual"), "python3")
        return
    with daemon() as served:
        served.out("create", "one")
        use(served, sys.executable)


def use(served: Daemon, python: str) -> None:
    """Look at a page, change it, and see it told to who listens."""
    with dev_server(served, python) as path:
        events = subprocess.Popen(curl(served, "--no-buffer", f"{path}/events"), stdout=subprocess.PIPE)
        assert events.stdout is not None
        with (
            events.stdout,
            unix_connect(served.endpoint.path, f"ws://bhatti{path}/hot", open_timeout=60, close_timeout=60) as hot,
        ):
            assert events.stdout.readline() == b"data: 0\n"
            assert hot.recv(timeout=60) == "ready"
            posted = subprocess.run(curl(served, "--data", "x", f"{path}/"), capture_output=True, check=True)
            assert posted.stdout == b"changed"
            assert (events.stdout.readline(), events.stdout.readline()) == (b"\n", b"data: 1\n")
            assert hot.recv(timeout=60) == "reload 1"
            hot.send("still there?")
            assert hot.recv(timeout=60) == "still there?"
            asked = subprocess.run(curl(served, f"{path}/"), capture_output=True, check=True)
            assert asked.stdout == b"<p>version 1"
            events.terminate()
        events.wait(60)
