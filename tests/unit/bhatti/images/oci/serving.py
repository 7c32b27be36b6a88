"""A real web server on this machine that answers just as a test says: wrongly, slowly, or not to the end."""

import hashlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.unit.bhatti.images.oci.making import Blob, MadeImage

Respond = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request, and how it is answered."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.log(self)
        self.server.respond(self)

    do_POST = do_GET

    def do_CONNECT(self) -> None:
        """Be a proxy: pass bytes both ways until either side ends."""
        self.server.log(self)
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((self.server.names.get(host, host), int(port))) as upstream:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_relay, args=(upstream, self.connection))
            back.start()
            _relay(self.connection, upstream)
            back.join()
        self.close_connection = True

    def answer(self, status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> None:
        """Answer; a `length` that differs from the body's is a lie, and the connection ends after the body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        if length is not None:
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def _relay(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side has ended


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server(ThreadingHTTPServer):
    """The server; `respond` may be exchanged at any time."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, respond: Respond, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.respond = respond
        self.seen: list[Seen] = []
        self.names: dict[str, str] = {}
        self._seen_lock = threading.Lock()
        self._tls = tls
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls is None:
            return connection, address
        return self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def log(self, request: Request) -> None:
        with self._seen_lock:
            self.seen.append(
                Seen(request.command, request.path, {k.lower(): v for k, v in request.headers.items()}, request.body)
                if request.command != "CONNECT"
                else Seen("CONNECT", request.path, {}, b"")
            )

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that refuses our certificate or goes away is what some tests are about."""

    def paths(self) -> list[str]:
        return [seen.path for seen in self.seen]


@contextmanager
def serving(respond: Respond, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(respond, tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class FakeRegistry:
    """Answers as a registry does, from memory, so that a test can change one answer into a wrong one."""

    manifests: dict[str, Blob] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)
    ranges: bool = True
    overrides: dict[str, Respond] = field(default_factory=dict)
    """By the end of the path."""

    def add(self, image: MadeImage, tag: str) -> None:
        self.manifests[tag] = self.manifests[image.manifest.digest] = image.manifest
        self.blobs |= {blob.digest: blob for blob in [*image.layers, image.config]}

    def __call__(self, request: Request) -> None:
        for end, respond in self.overrides.items():
            if request.path.endswith(end):
                respond(request)
                return
        match = re.fullmatch(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<wanted>[^/]+)", request.path)
        found = None
        if match is not None:
            found = (self.manifests if match["kind"] == "manifests" else self.blobs).get(match["wanted"])
        if found is None or match is None:
            request.answer(404, json.dumps({"errors": [{"code": "UNKNOWN", "message": "no such thing"}]}).encode())
        elif match["kind"] == "manifests":
            request.answer(200, found.data, Content_Type=found.media_type, Docker_Content_Digest=found.digest)
        else:
            self.send_blob(request, found.data)

    def send_blob(self, request: Request, data: bytes) -> None:
        wanted = re.fullmatch(r"bytes=([0-9]+)-", request.headers.get("Range", ""))
        if wanted is None or not self.ranges:
            request.answer(200, data)
        elif int(wanted[1]) >= len(data):
            request.answer(416)
        else:
            start = int(wanted[1])
            request.answer(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")


def truncated(data: bytes, keep: int) -> Respond:
    """Promise all of `data` and end the connection after `keep` bytes."""

    def respond(request: Request) -> None:
        request.answer(200, data[:keep], length=len(data))

    return respond


def certificate(directory: Path, name: str = "127.0.0.1") -> tuple[Path, Path]:
    """Make a self-signed certificate for `name` (an address or a host name); return it and its key."""
    import subprocess

    cert, key = directory / "cert.pem", directory / "key.pem"
    kind = "IP" if re.fullmatch(r"[0-9.]+", name) else "DNS"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
         "-addext", f"subjectAltName={kind}:{name}", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def tls_context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def sha256_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
