"""What can be had without a daemon: the doctor's report and images, from a process of the daemon's own code."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from bhatti.errors import ErrorBody, Unavailable, from_body

T = TypeVar("T")


def lines(work: str, *arguments: str, given: bytes | None = None) -> Iterator[bytes]:
    """Run one of the daemon's works; yield the lines it answers with. Raises the error it failed with.

    `given` is what it reads on standard input: for what others must not see in a list of processes. It runs in our
    process group: a Ctrl-C at the terminal ends it as well.
    """
    command = [sys.executable, "-m", "bhatti.daemon", work, *arguments]
    stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
    with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if given is not None and process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it has ended already, and says why
                process.stdin.write(given)
                process.stdin.close()
        last = b""
        for line in process.stdout:
            if last:
                yield last
            last = line
    if process.returncode == 0:
        yield last
        return
    try:
        body = msgspec.json.decode(last, type=ErrorBody)
    except msgspec.MsgspecError:
        raise Unavailable(f"{work} ended with exit status {process.returncode}", code="work-failed") from None
    raise from_body(0, body)


def answer(work: str, expected: type[T], *arguments: str) -> T:
    """Run one of the daemon's works and return its one answer."""
    return msgspec.json.decode(list(lines(work, *arguments))[-1], type=expected)


def no_daemon(error: Unavailable) -> bool:
    """Say whether `error` means that there is no daemon, as opposed to one in trouble."""
    return error.code == "daemon-not-running"
