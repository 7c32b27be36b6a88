"""Ports of a sandbox on this machine: every connection to a local port is one to the sandbox's.

Each connection has two threads, one per direction, each of which waits for one side and writes to the other: no buffer
grows, and the end of one direction is passed on while the other goes on.
"""

import contextlib
import errno
import json
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from bhatti.errors import BhattiError, Conflict, InvalidRequest, Unavailable
from bhatti.operations import table
from bhatti.sdk.connection import Connection
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.execution import told

HERE = "127.0.0.1"
"""Nobody but this machine is let in."""

BACKLOG = 128

RECEIVE_BYTES = 256 << 10

REST_S = 1.0
"""After a connection that could not be taken, so that a lack of descriptors does not become a lack of CPU too."""

UPGRADE = (("Upgrade", "tcp"),)

OnError = Callable[[Exception], object]
"""Called, in a thread of its own, with why a connection could not be made."""


def _ignored(error: Exception) -> None:
    """Take no notice: whoever connected sees that the connection is closed."""


class Forward:
    """A port of this machine, there for the block, that leads to `port` of a sandbox.

    `local_port` 0 is any that is free; `host` and `local_port` say which. Raises `Conflict` (code `port-taken`) if
    another program listens there, `InvalidRequest` (code `port-not-allowed`) if this user may not.
    """

    def __init__(
        self, endpoint: Endpoint, ref: str, port: int, local_port: int = 0, *, on_error: OnError = _ignored
    ) -> None:
        checked_port(port)
        self.port = port
        self.host = HERE
        self._endpoint = endpoint
        self._target = table.FORWARD.target({"id": ref, "port": str(port)})
        self._on_error = on_error
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._listener = _listening(local_port)
        self.local_port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Forward {self.host}:{self.local_port} to port {self.port}>"

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect, as sockets take it."""
        return self.host, self.local_port

    @property
    def url(self) -> str:
        """Where to connect, as browsers take it."""
        return f"http://{self.host}:{self.local_port}"

    def close(self) -> None:
        """Listen no more and end all connections. Idempotent; nothing of it is left when it returns."""
        with self._lock:
            self._closed.set()
            for sock in (self._listener, *self._open):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for it
            threads = set(self._threads)
        for thread in threads:
            thread.join()
        self._listener.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        """Begin `work` in a thread; the caller has the lock, or is the only one yet."""

        def run() -> None:
            try:
                work(*arguments)
            finally:
                with self._lock:
                    self._threads.discard(thread)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.add(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                local, _ = self._listener.accept()
            except OSError as err:
                if self._closed.is_set():
                    return
                self._on_error(err)  # out of descriptors, say: what is open goes on
                self._closed.wait(REST_S)
                continue
            if not self._begun(local, self._connect):
                return

    def _begun(self, local: socket.socket, work: Callable[[socket.socket], None]) -> bool:
        """Serve a connection in a thread of its own, unless this is closed."""
        with self._lock:
            if self._closed.is_set():
                local.close()
                return False
            self._open.add(local)
            self._start(work, local)
        return True

    def _connect(self, local: socket.socket) -> None:
        try:
            remote, early = tunnel(self._endpoint, self._target)
        except (OSError, BhattiError) as err:
            if not self._closed.is_set():
                self._on_error(err)
            self._drop(local)
            return
        with self._lock:
            self._open.add(remote)
            if self._closed.is_set():
                remote.shutdown(socket.SHUT_RDWR)
        back = threading.Thread(target=carry, args=(remote, local, early), daemon=True)
        back.start()
        carry(local, remote)
        back.join()
        self._drop(local, remote)

    def _drop(self, *sockets: socket.socket) -> None:
        with self._lock:
            for sock in sockets:
                self._open.discard(sock)
                sock.close()


def tunnel(endpoint: Endpoint, target: str) -> tuple[socket.socket, bytes]:
    """Return a socket that is a port of a sandbox, and what came from there already; raises the daemon's error."""
    connection = Connection(endpoint)
    answer = connection.upgrade(target, UPGRADE)
    if isinstance(answer, tuple):
        return answer
    with contextlib.closing(connection):
        raise told(json.loads(answer.read()))


def carry(source: socket.socket, sink: socket.socket, early: bytes = b"") -> None:
    """Carry one direction to its end, and pass that on; what breaks ends both."""
    try:
        if early:
            sink.sendall(early)
        while data := source.recv(RECEIVE_BYTES):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def checked_port(port: int, lowest: int = 1) -> int:
    """Return `port`; raises `InvalidRequest` (code `invalid-port`)."""
    if not lowest <= port <= 65_535:
        raise InvalidRequest(f"invalid port {port}", hint=f"a port is {lowest} to 65535", code="invalid-port")
    return port


def _listening(port: int) -> socket.socket:
    checked_port(port, 0)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier one may linger
        listener.bind((HERE, port))
        listener.listen(BACKLOG)
    except OSError as err:
        listener.close()
        raise _refused(port, err) from err
    return listener


def _refused(port: int, err: OSError) -> BhattiError:
    if err.errno == errno.EADDRINUSE:
        return Conflict(
            f"another program listens on port {port} of this machine",
            hint="give another local port (LOCAL:PORT), or 0 for any that is free",
            code="port-taken",
        )
    if err.errno == errno.EACCES:
        return InvalidRequest(
            f"this user may not listen on port {port}",
            hint="give a local port above 1023 (LOCAL:PORT)",
            code="port-not-allowed",
        )
    return Unavailable(f"cannot listen on port {port}: {err.strerror}", code="address-unusable")
