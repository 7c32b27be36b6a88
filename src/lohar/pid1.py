"""The agent as the first process of a machine."""

from __future__ import annotations

import socket
import sys

from lohar import boot
from lohar.server import serve
from lohar.wire.frames import CONTROL_PORT, FORWARD_PORT

BACKLOG = 512
"""The connection limit: a burst is answered rather than refused."""


def run() -> int:
    """Boot, serve until SIGTERM, and switch the machine off. Returns only if that is impossible."""
    config = boot.boot()
    control, forward = listen(CONTROL_PORT), listen(FORWARD_PORT)
    serve(config, control, forward, ready=boot.announce_ready)
    boot.power_off()
    return 1


def listen(port: int) -> list[socket.socket]:
    """Listen on a port of TCP and, where the kernel has it, of vsock."""
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tcp.bind(("0.0.0.0", port))
    tcp.listen(BACKLOG)
    sockets = [tcp]
    if sys.platform == "linux":
        try:
            vsock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            vsock.bind((socket.VMADDR_CID_ANY, port))
            vsock.listen(BACKLOG)
        except OSError:
            return sockets  # no such device: the host comes over TCP
        sockets.append(vsock)
    return sockets
