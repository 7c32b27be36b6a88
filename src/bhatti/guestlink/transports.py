"""Ways to a guest agent's ports: unix sockets, TCP (bound to a device if wished), and Firecracker's vsock.

A transport makes connected, non-blocking stream sockets and keeps no state, so that it can be shared and repeated.
"""

import asyncio
import contextlib
import os
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import TypeVar

from bhatti.errors import MissingDependency
from bhatti.guestlink.failures import unreachable
from lohar.wire.frames import CONTROL_PORT, FORWARD_PORT

T = TypeVar("T")

VSOCK_REPLY_LIMIT = 64
"""Firecracker answers CONNECT with `OK <port>\\n`, at most 14 bytes; more than this is something else."""

BACKLOG_RETRY_S = 0.005
"""Between two attempts at a listener whose queue is full: it empties within microseconds if the agent is alive."""

SOCKET_BUFFER = 1 << 20
"""Kernel buffer asked for to send on unix sockets: uploads cost the host a fifth less CPU time than with the default of
208 KiB. TCP's buffers grow by themselves as long as nobody sets them."""


class Transport(ABC):
    """Makes connections to one agent."""

    @abstractmethod
    async def connect(self, port: int) -> socket.socket:
        """Return a connected, non-blocking stream socket to `port` (control or forward port of the agent).

        Raises `Unavailable` (code `guest-unreachable`) when nobody listens. Sets no deadline: the caller does. Safe to
        cancel: nothing stays open.
        """

    @abstractmethod
    def __str__(self) -> str:
        """Name the peer for error messages."""


class UnixTransport(Transport):
    """An agent in test mode, or one behind a forwarder: a unix socket for each of its ports."""

    def __init__(self, control: Path, forward: Path | None = None) -> None:
        self._paths = {CONTROL_PORT: control, FORWARD_PORT: forward}

    async def connect(self, port: int) -> socket.socket:
        """Connect to the socket that stands for `port`."""
        path = self._paths.get(port)
        if path is None:
            raise unreachable(str(self), f"there is no socket for port {port}")
        with _new_socket(socket.AF_UNIX) as sock:
            await _refine(self, self._reach(sock, path))
            return sock

    async def _reach(self, sock: socket.socket, path: Path) -> None:
        await _connect_unix(sock, path)

    def __str__(self) -> str:
        return f"unix:{self._paths[CONTROL_PORT]}"


class TcpTransport(Transport):
    """An agent on an IP address.

    With `device`, the sockets are bound to that network interface (SO_BINDTODEVICE, Linux, needs CAP_NET_RAW): forks
    that all have the same address are told apart by their taps. With `source`, they come from that address of this
    host. `ports` maps the agent's ports to others, for guests behind a port-forwarding network.
    """

    def __init__(
        self, host: str, *, device: str | None = None, source: str | None = None, ports: dict[int, int] | None = None
    ) -> None:
        self.host = host
        self.device = device
        self._source = source
        self._ports = ports or {}

    async def connect(self, port: int) -> socket.socket:
        """Connect to `port`, or what it is mapped to."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with _new_socket(family) as sock:
            # Requests are written whole: waiting for more to send only costs time.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await _refine(self, self._reach(sock, port))
            return sock

    async def _reach(self, sock: socket.socket, port: int) -> None:
        if self.device is not None:
            _bind_to_device(sock, self.device)
        if self._source is not None:
            sock.bind((self._source, 0))
        await asyncio.get_running_loop().sock_connect(sock, (self.host, self._ports.get(port, port)))

    def __str__(self) -> str:
        return f"tcp:{self.host}" + (f"%{self.device}" if self.device else "")


class VsockTransport(Transport):
    """A Firecracker guest: its vsock device is a unix socket that asks for the port in a line of text.

    See "Firecracker vsock device, host-initiated connections" in Firecracker's documentation.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def connect(self, port: int) -> socket.socket:
        """Connect, and ask the device for `port`."""
        with _new_socket(socket.AF_UNIX) as sock:
            await _refine(self, self._handshake(sock, port))
            return sock

    async def _handshake(self, sock: socket.socket, port: int) -> None:
        loop = asyncio.get_running_loop()
        await _connect_unix(sock, self._path)
        await loop.sock_sendall(sock, b"CONNECT %d\n" % port)
        reply = b""
        while not reply.endswith(b"\n"):
            # One byte at a time: whatever follows the line belongs to the agent's stream.
            data = await loop.sock_recv(sock, 1)
            if not data:
                raise ConnectionRefusedError(f"nobody listens on vsock port {port}")
            reply += data
            if len(reply) > VSOCK_REPLY_LIMIT:
                raise ConnectionRefusedError(f"not a vsock answer: {reply!r}")
        if not reply.startswith(b"OK "):
            raise ConnectionRefusedError(f"vsock port {port}: {reply.decode('ascii', 'replace').strip()}")

    def __str__(self) -> str:
        return f"vsock:{self._path}"


@contextlib.contextmanager
def _new_socket(family: int) -> Iterator[socket.socket]:
    """Make a non-blocking stream socket that is closed if the block does not end well."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        yield sock
    except BaseException:
        sock.close()
        raise


async def _refine(transport: Transport, attempt: Awaitable[T]) -> T:
    """Turn the system's error into one that names the guest."""
    try:
        return await attempt
    except OSError as error:
        # asyncio words a refused connection in its own way; everybody knows the system's.
        raise unreachable(str(transport), os.strerror(error.errno) if error.errno else str(error)) from error


async def _connect_unix(sock: socket.socket, path: Path) -> None:
    """Connect; wait while the listener's queue is full.

    A full queue makes a non-blocking connect fail with EAGAIN and leaves nothing to wait for (connect(2)): the loop's
    own `sock_connect` takes that for a connection in progress and returns a socket that is not connected.
    """
    while True:
        try:
            sock.connect(str(path))
        except BlockingIOError:
            await asyncio.sleep(BACKLOG_RETRY_S)
        else:
            return


def _bind_to_device(sock: socket.socket, device: str) -> None:
    if sys.platform == "linux":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
    else:
        raise MissingDependency(f"cannot bind a socket to {device}: SO_BINDTODEVICE is Linux's", code="not-on-linux")
