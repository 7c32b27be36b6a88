"""Network tests run in a network namespace of their own: real kernel objects that vanish with it."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")


def setns(file: int, kind: int) -> None:
    if libc.setns(file, kind):
        raise OSError(ctypes.get_errno(), "setns")


@pytest.fixture
def namespace() -> Iterator[None]:
    """Move this thread into a new network namespace, and back; the kernel deletes what was made in it."""
    if os.geteuid():
        pytest.skip("needs root: a network namespace of its own")
    home = os.open(Path("/proc/thread-self/ns/net"), os.O_RDONLY | os.O_CLOEXEC)
    unshare(CLONE_NEWNET)
    try:
        yield
    finally:
        setns(home, CLONE_NEWNET)
        os.close(home)
