import os
import pty
import termios
from pathlib import Path

import pytest

from bhatti.cli import terminal


def test_the_size_is_the_terminals_or_the_usual_one() -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 132))
    assert terminal.size(theirs) == (50, 132)
    termios.tcsetwinsize(theirs, (0, 0))
    assert terminal.size(theirs) == (1, 1)
    os.close(ours)
    os.close(theirs)
    with Path(os.devnull).open("rb") as nothing:
        assert terminal.size(nothing.fileno()) == (24, 80)


def test_the_terminal_is_as_it_was_whatever_happens() -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    with pytest.raises(KeyError):
        fail_in_raw(theirs)
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def fail_in_raw(descriptor: int) -> None:
    with terminal.raw(descriptor):
        assert not termios.tcgetattr(descriptor)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        raise KeyError("x")
