"""What can be had without a daemon: the doctor's report and images, from a process of the daemon's own code."""

import subprocess
import sys
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from bhatti.errors import ErrorBody, Unavailable, from_body

T = TypeVar("T")


def lines(work: str, *arguments: str) -> Iterator[bytes]:
    """Run one of the daemon's works; yield the lines it answers with. Raises the error it failed with.

    It runs in our process group: a Ctrl-C at the terminal ends it as well.
    """
    command = [sys.executable, "-m", "bhatti.daemon", work, *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
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
