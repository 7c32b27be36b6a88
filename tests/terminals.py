"""A pseudo-terminal with a process on it: what a person sits at."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

DEADLINE_S = 60.0


class Screen:
    """The person's side: type and read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._unread = b""

    def type(self, text: bytes) -> None:
        os.write(self._descriptor, text)

    def resize(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def drain(self, timeout_s: float) -> bool:
        """Wait for news, so long at most, and drop it; tell whether there was any."""
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            return False
        try:
            os.read(self._descriptor, 65_536)
        except OSError:  # as below
            time.sleep(timeout_s)
            return False
        return True

    def wait_for(self, text: bytes) -> bytes:
        """Read until `text` appears after what was waited for before; return what came, to its end."""
        deadline = time.monotonic() + DEADLINE_S
        came = self._unread
        while text not in came:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                raise AssertionError(f"{text!r} never came, but {came!r}")
            try:
                came += os.read(self._descriptor, 65_536)
            except OSError as err:  # EIO: nobody has the other side open any more
                raise AssertionError(f"{text!r} never came, but {came!r}") from err
        end = came.index(text) + len(text)
        self._unread = came[end:]
        return came[:end]


@contextmanager
def screen(
    *command: str, env: dict[str, str], cwd: str = "/", rows: int = 24, cols: int = 80
) -> Iterator[tuple[Screen, "subprocess.Popen[bytes]"]]:
    """Run `command` with a terminal of its own as its standard input, output and error."""
    ours, theirs = pty.openpty()
    shown = Screen(ours)
    shown.resize(rows, cols)
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=cwd, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    try:
        with process:
            try:
                yield shown, process
            finally:
                process.kill()
    finally:
        os.close(ours)
