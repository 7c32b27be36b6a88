"""Connecting to the control socket of a virtual machine's process, wherever it is."""

import os
import socket
from pathlib import Path


def open_socket(path: Path) -> socket.socket:
    """Connect to a unix socket however long its path is: sun_path has 108 bytes (unix(7)). Does not block once open.

    Raises `OSError` if nobody listens.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(f"/proc/self/fd/{directory}/{path.name}")
        except BaseException:
            connection.close()
            raise
    finally:
        os.close(directory)
    connection.setblocking(False)
    return connection
