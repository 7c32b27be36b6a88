"""Telling that a command ended for want of memory where it has no control group of its own: in a container.

There the whole container has one group, and shows how often the kernel killed in it. A command that ended of SIGKILL
while that number grew is taken to be the one: the kernel prefers commands to the agent (`lohar.launch`), and nothing
else kills while nobody asks for it.
"""

from __future__ import annotations

import os
import signal

from lohar.cgroups import ROOT, read_keys, read_number
from lohar.wire.messages import OomKill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.child import Child

PLACES = (
    ("memory.events", "memory.max"),
    ("memory/memory.oom_control", "memory/memory.limit_in_bytes"),
)
"""Where the kills are counted and the limit stands: version 2, then version 1 of control groups."""

KILLED = 128 + signal.SIGKILL


class SharedMemory:
    """The memory of the container; `events` and `limit` are its files."""

    def __init__(self, events: str, limit: str) -> None:
        self._events = events
        self._limit = limit
        self._at_start: dict[int, int] = {}

    def kills(self) -> int:
        """Return how often the kernel has killed so far."""
        return read_keys(self._events).get("oom_kill", 0)

    def watch(self, child: Child, kills: int) -> None:
        """Judge `child` when it has ended; there had been `kills` before it was started."""
        self._at_start[child.pid] = kills

    def ended(self, child: Child) -> OomKill | None:
        """Return what killed `child` if it was the want of memory."""
        before = self._at_start.pop(child.pid, None)
        if before is None or child.code != KILLED or self.kills() == before:
            return None
        return OomKill(
            victim=os.path.basename(child.argv[0]) if child.argv else "",
            pid=child.pid,
            limit_bytes=read_number(self._limit),
        )


def open_memory(root: str = ROOT) -> SharedMemory | None:
    """Return the container's memory as the control groups below `root` tell it; None if they do not."""
    for events, limit in PLACES:
        if "oom_kill" in read_keys(f"{root}/{events}"):
            return SharedMemory(f"{root}/{events}", f"{root}/{limit}")
    return None
