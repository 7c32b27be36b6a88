"""The agent on two unix sockets of an ordinary machine, for tests and for any client of the protocol.

Whoever starts it waits for the control socket's file to appear and connects at once: so the file appears, by a rename,
when everything listens already, and the forward socket is there before it.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
from contextlib import suppress

from lohar.config import AgentConfig
from lohar.server import serve

BACKLOG = 512
"""Connections that may wait to be accepted: the connection limit, so that a burst is answered rather than refused."""

OPEN_FILES = 8192
"""The usual 1024 are too few for hundreds of commands with three pipes each."""


class TestModeError(Exception):
    """The sockets cannot be made; the message says which and why."""


def run(environment: dict[str, str], config: AgentConfig | None = None) -> int:
    """Serve as `environment` says (LOHAR_SOCK, LOHAR_FWD_SOCK) until told to stop; return the exit status.

    Without a `config`, commands run as the agent's own user with `/root` for a home.
    """
    control, forward = environment.get("LOHAR_SOCK", ""), environment.get("LOHAR_FWD_SOCK", "")
    if not control or not forward:
        print("lohar: test mode needs LOHAR_SOCK and LOHAR_FWD_SOCK, the paths of two sockets", file=sys.stderr)
        return 1
    try:
        remove_stale(control)
        remove_stale(forward)
        sockets = (listen(control), listen(forward))
        os.rename(_hidden(forward), forward)
    except TestModeError as error:
        print(f"lohar: {error}", file=sys.stderr)
        return 1
    raise_limits()
    settled = config or AgentConfig(home="/root", uid=os.getuid(), gid=os.getgid())

    def ready() -> None:
        os.rename(_hidden(control), control)
        print("lohar: test mode ready", file=sys.stderr, flush=True)

    try:
        serve(settled, sockets[:1], sockets[1:], ready=ready)
    finally:
        for path in (control, forward):
            with suppress(FileNotFoundError):
                os.unlink(path)
    return 0


def remove_stale(path: str) -> None:
    """Remove a socket that an earlier agent left. Raises `TestModeError` for anything else that is there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise TestModeError(f"{path} is there and is no socket")
    os.unlink(path)


def listen(path: str) -> socket.socket:
    """Listen on a socket beside `path`, to be renamed. Raises `TestModeError`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    hidden = _hidden(path)
    try:
        remove_stale(hidden)
        sock.bind(hidden)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise TestModeError(f"cannot listen on {path}: {error.strerror or error}") from error
    return sock


def _hidden(path: str) -> str:
    # One character more than the path: addresses of unix sockets have room for 107 (unix(7)).
    return f"{path}~"


def raise_limits() -> None:
    """Allow as many open files as the machine does, up to what is useful."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
