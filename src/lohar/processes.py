"""What `/proc` tells about the processes of this machine. Elsewhere than on Linux: nothing."""

from __future__ import annotations

import os
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_TICK_MS = 1000 // os.sysconf("SC_CLK_TCK")


class ProcessStat:
    """A line of /proc/PID/stat, as far as it is wanted (proc(5))."""

    __slots__ = ("cpu_ms", "name", "parent", "pid", "session", "state", "terminal")

    def __init__(self, text: bytes) -> None:
        # The name may contain spaces and brackets; the last bracket ends it.
        start, end = text.index(b"("), text.rindex(b")")
        fields = text[end + 2 :].split()
        self.pid = int(text[:start])
        self.name = os.fsdecode(text[start + 1 : end])
        self.state = fields[0].decode()
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.terminal = fields[4] != b"0"
        # Its own time, and that of its children that have been waited for.
        self.cpu_ms = sum(map(int, fields[11:15])) * _TICK_MS


def processes() -> Iterator[ProcessStat]:
    """Walk over all processes that can be seen; those that end meanwhile are left out."""
    try:
        names = os.listdir("/proc")
    except FileNotFoundError:
        return
    for name in names:
        if name.isdigit():
            stat = process(int(name))
            if stat is not None:
                yield stat


def process(pid: int) -> ProcessStat | None:
    """Return what is known of one process, or None if there is no such."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return ProcessStat(os.read(fd, 4096))
    except (OSError, ValueError):
        return None  # it ended between open and read
    finally:
        os.close(fd)


def session_members(session: int) -> list[int]:
    """Return the pids of a session's processes (setsid(2)), without zombies."""
    return [stat.pid for stat in processes() if stat.session == session and stat.state != "Z"]


def send_signal(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
