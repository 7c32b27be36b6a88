"""Where the daemon listens: TCP, and a unix socket, there for its owner alone and never without a listener."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from bhatti.errors import Conflict, InvalidRequest, Unavailable
from bhatti.paths import MAX_SOCKET_PATH_BYTES

BACKLOG = 1024
"""Callers at once that are not refused: a unix socket with a full backlog turns a non-blocking one away (EAGAIN)."""


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen on `path` with mode 0600 for the block; what a dead daemon left there is replaced.

    Raises `InvalidRequest` (code `socket-path-too-long`), or `Conflict` (code `socket-taken`) if somebody answers
    there or it is no socket at all.
    """
    _check_length(path)
    _clear(path)
    # Bound under another name and renamed when it listens: whoever sees the socket can connect to it.
    waiting = path.with_name(f".{os.getpid()}")
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
        waiting.unlink(missing_ok=True)
        listener.bind(str(waiting))
        waiting.chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        waiting.rename(path)
        ours = path.stat().st_ino
        try:
            yield listener
        finally:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == ours:
                    path.unlink()


@contextlib.contextmanager
def listening_on_tcp(address: str, setting: str = "listen") -> Iterator[socket.socket]:
    """Listen on the `host:port` of a setting for the block; an IPv6 address is in brackets, port 0 is any that is free.

    Raises `InvalidRequest` (code `bad-setting`), `Conflict` (code `address-taken`), or `Unavailable` (code
    `address-unusable`).
    """
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise InvalidRequest(
            f"{setting}: {address!r} is not host:port", hint="for example 127.0.0.1:8080", code="bad-setting"
        )
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as err:
        raise _unusable(address, setting, err) from err
    with contextlib.closing(listener):
        try:
            # A daemon that is started again finds connections of the one before in TIME_WAIT.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(BACKLOG)
        except OSError as err:
            raise _unusable(address, setting, err) from err
        listener.setblocking(False)
        yield listener


def _unusable(address: str, setting: str, err: OSError) -> Conflict | Unavailable:
    if err.errno == errno.EADDRINUSE:
        return Conflict(
            f"another process listens on {address}",
            hint=f"choose another port with --set {setting}=HOST:PORT",
            code="address-taken",
        )
    return Unavailable(
        f"the daemon cannot listen on {address}: {err.strerror}",
        hint="use an address of this machine, and a port above 1023 if you are not root",
        code="address-unusable",
    )


def _check_length(path: Path) -> None:
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH_BYTES:
        raise InvalidRequest(
            f"the socket path {path} has {length} bytes, the kernel takes {MAX_SOCKET_PATH_BYTES}",
            hint="set BHATTI_RUNTIME_DIR to a shorter directory",
            code="socket-path-too-long",
        )


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(
            f"{path} exists and is not a socket",
            hint="move it away, or set BHATTI_RUNTIME_DIR to another directory",
            code="socket-taken",
        )
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # its backlog is full: somebody is alive there, and busy
    raise Conflict(
        f"another process listens on {path}",
        hint="`bhatti version` asks it who it is; another daemon needs a BHATTI_RUNTIME_DIR of its own",
        code="socket-taken",
    )
