"""Pseudo-terminals: a command on one, and its size."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from contextlib import suppress

from lohar.failures import system_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.child import Child
    from lohar.commands import Commands
    from lohar.wire.messages import ExecRequest

DEFAULT_ROWS = 24
DEFAULT_COLS = 80


def start_on_terminal(commands: Commands, request: ExecRequest) -> tuple[Child, int]:
    """Start the command of `request` on a new terminal that controls it; return it and the terminal's master."""
    try:
        master, slave = os.openpty()
    except OSError as error:
        raise system_error("start: open pty", error) from error
    try:
        resize(master, request.rows or DEFAULT_ROWS, request.cols or DEFAULT_COLS)
        owner = commands.account_owner(request)
        if owner is not None:
            os.fchown(slave, *owner)
        child = commands.start(request, terminal=slave)
    except BaseException:
        os.close(master)
        raise
    finally:
        # Ours must close, or reading the master would never end; the child has its own by now.
        os.close(slave)
    os.set_blocking(master, False)
    return child, master


def resize(master: int, rows: int, cols: int) -> None:
    """Set the size; whoever runs on the terminal gets SIGWINCH."""
    with suppress(OSError):
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
