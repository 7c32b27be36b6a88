"""What a container wrote, out of Docker's log of it."""

import http.client
import socket
from pathlib import Path
from urllib.parse import urlencode

from bhatti.engines.docker import failures
from bhatti.engines.docker.api import QUICK_S, log_parameters

HEADER_BYTES = 8
"""Stream (1: stdout, 2: stderr), three zeros, length as u32, big-endian: API reference, "Attach to a container"."""

MAX_LOG_BYTES = 1 << 20
"""Docker cuts a container's log here. The guest writes it, so it must have a bound."""

TAIL_LINES = 2000
"""Asked for when a tail is wanted; the lines of a log of `MAX_LOG_BYTES` are rarely more."""


def demultiplex(framed: bytes) -> bytes:
    """Return the output without the frames around it; a frame that is cut off gives what there is of it."""
    pieces = []
    position = 0
    while position + HEADER_BYTES <= len(framed):
        length = int.from_bytes(framed[position + 4 : position + HEADER_BYTES])
        position += HEADER_BYTES
        pieces.append(framed[position : position + length])
        position += length
    return b"".join(pieces)


def tail(output: bytes, max_bytes: int) -> str:
    """Return the last `max_bytes` of an output, undecodable bytes replaced."""
    return output[max(0, len(output) - max_bytes) :].decode(errors="replace")


def read_blocking(docker: Path, prefix: str, container: str) -> bytes:
    """Return what a container wrote last, through a connection of its own. Blocks for some milliseconds.

    Empty if there is no such container any more. Raises what `bhatti.engines.docker.failures` has.
    """
    connection = _UnixConnection(docker)
    try:
        target = f"{prefix}/containers/{container}/logs?{urlencode(log_parameters(TAIL_LINES))}"
        connection.request("GET", target, headers={"Host": "docker"})
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise failures.broken_off("the log of a container", str(error)) from error
    except TimeoutError as error:
        raise failures.silent("the log of a container", QUICK_S) from error
    except OSError as error:
        raise failures.unreachable(docker, error) from error
    finally:
        connection.close()
    if answer.status == http.HTTPStatus.NOT_FOUND:
        return b""
    if answer.status != http.HTTPStatus.OK:
        raise failures.refused("the log of a container", answer.status, body[:500].decode(errors="replace"))
    return demultiplex(body)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=QUICK_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
