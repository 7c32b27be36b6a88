"""This process's own terminal: raw while a sandbox has it, as it was afterwards, whatever happens."""

import contextlib
import os
import termios
import tty
from collections.abc import Iterator


def size(descriptor: int = 0) -> tuple[int, int]:
    """Return rows and columns; 24 by 80 if it is no terminal."""
    try:
        found = os.get_terminal_size(descriptor)
    except OSError:
        return 24, 80
    return max(found.lines, 1), max(found.columns, 1)


@contextlib.contextmanager
def raw(descriptor: int = 0) -> Iterator[None]:
    """Have the terminal in raw mode for the block."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor, termios.TCSANOW)
        yield
    finally:
        # Not TCSAFLUSH: what was typed ahead belongs to the shell that we return to.
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
