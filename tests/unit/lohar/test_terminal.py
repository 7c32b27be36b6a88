import fcntl
import os
import struct
import termios

import pytest
from tests.unit.lohar.serving import Serving, open_files

from lohar.failures import RequestError
from lohar.terminal import resize, start_on_terminal
from lohar.wire.messages import ExecRequest


def size_of(master: int) -> tuple[int, int]:
    rows, cols, _, _ = struct.unpack("HHHH", fcntl.ioctl(master, termios.TIOCGWINSZ, bytes(8)))
    return rows, cols


def test_a_command_gets_a_terminal_of_the_wanted_size(serving: Serving) -> None:
    child, master = start_on_terminal(serving.agent.commands, ExecRequest(argv=("tty",), rows=5, cols=7))
    assert size_of(master) == (5, 7)
    assert not os.get_blocking(master)
    resize(master, 50, 70)
    assert size_of(master) == (50, 70)
    serving.turn_until(lambda: not child.running)
    assert os.read(master, 100).startswith(b"/dev/pts/")
    os.close(master)


def test_without_a_wish_it_is_the_usual_size(serving: Serving) -> None:
    child, master = start_on_terminal(serving.agent.commands, ExecRequest(argv=("true",)))
    assert size_of(master) == (24, 80)
    serving.turn_until(lambda: not child.running)
    os.close(master)
    resize(master, 1, 1)  # a terminal that is gone has no size to set


def test_a_command_that_cannot_start_leaves_no_terminal(serving: Serving) -> None:
    before = open_files()
    with pytest.raises(RequestError, match="no such file"):
        start_on_terminal(serving.agent.commands, ExecRequest(argv=("/nonexistent",)))
    assert open_files() == before
