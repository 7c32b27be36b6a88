"""The agent's ends of a command's pipes: what it writes, and what it is given to read."""

from __future__ import annotations

import errno
import os

from lohar.poller import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lohar.loop import Loop

READ_SIZE = 64 << 10
"""What a pipe holds (pipe(7)): one read empties it."""

STDIN_HIGH_WATER = 256 << 10
"""Input waiting for a command that does not read, above which its client is read no more."""


def make_pipe(ours: int) -> tuple[int, int]:
    """Return (our end, the command's end) of a new pipe; `ours` is 0 to read from it, 1 to write to it."""
    ends = os.pipe()
    # Only our end: blocking is a property of the open file, and commands expect theirs to block.
    os.set_blocking(ends[ours], False)
    return ends[ours], ends[1 - ours]


class OutputPipe:
    """What a command writes, to a pipe or to a terminal's slave end.

    `on_data(data)` gets it, at most `size` bytes at a time; `on_end()` is told when nobody can write any more. With
    `paused` nothing is read before `resume` or `drain`.
    """

    __slots__ = ("_fd", "_loop", "_on_data", "_on_end", "_reading", "_size")

    def __init__(
        self,
        loop: Loop,
        fd: int,
        on_data: Callable[[bytes], None],
        on_end: Callable[[], None],
        size: int = READ_SIZE,
        *,
        paused: bool = False,
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._size = size
        self._on_data = on_data
        self._on_end = on_end
        self._reading = False
        if not paused:
            self.resume()

    @property
    def open(self) -> bool:
        """Whether somebody may still write to it."""
        return self._fd >= 0

    def pause(self) -> None:
        """Read no more for now: whoever writes will wait once the pipe is full."""
        if self._reading and self._fd >= 0:
            self._reading = False
            self._loop.unregister(self._fd)

    def resume(self) -> None:
        """Go on reading."""
        if not self._reading and self._fd >= 0:
            self._reading = True
            self._loop.register(self._fd, READ, self._ready)

    def drain(self) -> None:
        """Read what is there now and, if that is all there will be, the end; wait for nothing."""
        if self._fd >= 0:
            self._ready(READ)
        if self._fd >= 0:
            self._ready(READ)

    def discard(self) -> None:
        """From now on read to nowhere, until the last writer has gone."""
        self._on_data = self._on_end = _ignore
        self.resume()

    def _ready(self, _mask: int) -> None:
        try:
            data = os.read(self._fd, self._size)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""  # a terminal's way to say that its last slave end was closed
        if data:
            self._on_data(data)
        else:
            self.close()
            self._on_end()

    def close(self) -> None:
        """Close our end: who writes to it from now on gets SIGPIPE."""
        if self._fd >= 0:
            if self._reading:
                # Closing alone does not take it out of epoll: a child that is about to become a command has all our
                # descriptors for a moment longer, and an event would reach whoever has the number next.
                self._loop.unregister(self._fd)
            os.close(self._fd)
            self._fd = -1


def _ignore(*_: object) -> None:
    """Take no notice."""


class InputPipe:
    """What a command reads. Bytes wait here while it does not; `on_room()` tells when few are left.

    `fd` is -1 for a command that has no such pipe: everything is dropped.
    """

    __slots__ = ("_ending", "_fd", "_loop", "_on_room", "_size", "_waiting")

    def __init__(self, loop: Loop, fd: int, on_room: Callable[[], None]) -> None:
        self._loop = loop
        self._fd = fd
        self._on_room = on_room
        self._waiting: list[bytes | memoryview] = []
        self._size = 0
        self._ending = False

    @property
    def full(self) -> bool:
        """Whether so much waits that no more should be accepted before `on_room`."""
        return self._size > STDIN_HIGH_WATER

    def write(self, data: bytes) -> None:
        """Pass `data` on; dropped if the command reads no more."""
        if self._fd < 0 or self._ending:
            return
        self._waiting.append(data)
        self._size += len(data)
        if len(self._waiting) == 1 and not self._write():
            self._loop.register(self._fd, WRITE, self._ready)

    def end(self) -> None:
        """Close it once everything has been passed on."""
        self._ending = True
        if not self._waiting:
            self.close()

    def _ready(self, _mask: int) -> None:
        was_full = self.full
        if self._write() and self._fd >= 0:
            self._loop.unregister(self._fd)
            if self._ending:
                self.close()
        if was_full and not self.full:
            self._on_room()

    def _write(self) -> bool:
        """Write what fits; True if nothing waits any more."""
        waiting = self._waiting
        try:
            while waiting:
                data = waiting[0]
                written = os.write(self._fd, data)
                self._size -= written
                if written < len(data):
                    waiting[0] = memoryview(data)[written:]
                else:
                    del waiting[0]
        except BlockingIOError:
            return False
        except OSError:
            self.close()  # EPIPE: the command has closed its stdin, or ended
        return True

    def close(self) -> None:
        """Close it now: the command reads what is in the pipe, then the end."""
        if self._fd >= 0:
            self._loop.unregister(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._waiting.clear()
            self._size = 0
