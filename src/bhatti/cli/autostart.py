"""Start a daemon when a command needs one and there is none; say so."""

import contextlib
import os
import sys
import time

import msgspec

from bhatti import paths
from bhatti.errors import ErrorBody, Unavailable, from_body
from bhatti.operations import table
from bhatti.sdk.client import Client

READY_S = 60.0
"""Expected: under a second; some seconds the first time on a host, when the engine finds out what its KVM is worth."""

POLL_S = 0.05


SERVING = frozenset({"ok", "damaged"})
"""What a daemon says of itself that answers: one whose store is damaged tells those who want what it cannot do."""


def client_of_running_daemon() -> Client:
    """Return a client whose daemon serves; one is started if none runs and no other than this user's own is named.

    Raises `Unavailable` or what kept the daemon from starting.
    """
    from bhatti.cli.session import client

    ours = client()
    try:
        status = ours.call(table.HEALTH).status
    except Unavailable as err:
        named = os.environ.get("BHATTI_URL") or ours.endpoint.path != paths.socket_path()
        if err.code != "daemon-not-running" or named:
            raise
        start()
    else:
        if status in SERVING:
            return ours
    wait_until_ready(ours, READY_S)
    return ours


def start() -> None:
    """Start a daemon of this user, on its own, and wait until it serves."""
    log = paths.log_path()
    os.makedirs(paths.state_dir(), mode=0o700, exist_ok=True)  # noqa: PTH103  # paths are text here
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_inheritable(writer, True)
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "bhatti.daemon", "serve", "--ready-fd", str(writer)],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,  # a Ctrl-C at our terminal is not for it
        )
    finally:
        os.close(writer)
    sys.stderr.write(f"bhatti: no daemon is running; started one (pid {pid}, log {log})\n")
    with os.fdopen(reader, "rb") as answers:
        said = answers.readline()
    if said == b"ready\n":
        return
    with contextlib.suppress(msgspec.MsgspecError):
        body = msgspec.json.decode(said, type=ErrorBody)
        if body.code == "already-running":
            return  # somebody was quicker: his is as good
        raise from_body(0, body)
    raise Unavailable("the daemon ended before it served", hint=f"its log says why: {log}", code="daemon-died")


def wait_until_ready(client: Client, timeout_s: float) -> None:
    """Wait until the daemon serves everything; raises `Unavailable` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if client.call(table.HEALTH).status in SERVING:
                return
            problem = Unavailable("the daemon is still starting", hint=f"its log: {paths.log_path()}", code="starting")
        except Unavailable as err:
            problem = err
        if time.monotonic() > deadline:
            raise problem
        time.sleep(POLL_S)
