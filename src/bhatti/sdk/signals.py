"""Signals as something a `poll` can wait for."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator


@contextlib.contextmanager
def caught(numbers: Iterable[int]) -> Iterator[int]:
    """Catch these signals for the block; yields a descriptor from which their numbers can be read, a byte each.

    Signals that this process was told to ignore stay ignored.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = {}

    def note(number: int, frame: object) -> None:
        with contextlib.suppress(BlockingIOError):  # a storm of them: what is in the pipe says enough
            os.write(writer, bytes([number]))

    try:
        for number in numbers:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup, or a background job of a script: it was decided before us that this is not for us
            before[number] = signal.signal(number, note)
        yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def pending(descriptor: int) -> list[int]:
    """Return the signals that have come since the last look."""
    try:
        return list(os.read(descriptor, 1024))
    except BlockingIOError:
        return []
