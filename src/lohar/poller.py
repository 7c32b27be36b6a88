"""Which descriptors are ready: epoll where the kernel has it, whatever `selectors` finds elsewhere.

The agent needs one thing that `selectors` cannot say: "tell me only when the peer is gone" (an empty interest). A
command whose client has stopped reading must still be ended when that client dies, so on Linux we talk to epoll itself;
it is also the cheaper way, as an exec registers and forgets three descriptors.
"""

from __future__ import annotations

import select
import selectors
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Poller(Protocol):
        """What `lohar.loop` asks of either."""

        def register(self, fd: int, mask: int) -> None:
            """Report `fd` from now on; `mask` is any of READ and WRITE, or 0."""

        def modify(self, fd: int, mask: int) -> None:
            """Change the interest in `fd`."""

        def unregister(self, fd: int) -> None:
            """Forget `fd`; it must still be open."""

        def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
            """Wait, for ever if None, and return (fd, mask) pairs; `mask` may have HANGUP and ERROR as well."""

        def close(self) -> None:
            """Free the poller's own descriptor."""


READ = 1
WRITE = 4
ERROR = 8
HANGUP = 16
"""The values that epoll and poll(2) have for them on every system: a mask passes through unchanged."""

GONE = ERROR | HANGUP
"""Both directions of a connection are dead, or all writers of a pipe are."""


class SelectorPoller:
    """The portable one. Without interest in reading or writing, `selectors` reports nothing, not even a hang-up."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._registered: set[int] = set()

    def register(self, fd: int, mask: int) -> None:
        """Report `fd` from now on."""
        if mask:
            self._selector.register(fd, _events(mask))
            self._registered.add(fd)

    def modify(self, fd: int, mask: int) -> None:
        """Change the interest in `fd`."""
        if fd not in self._registered:
            self.register(fd, mask)
        elif mask:
            self._selector.modify(fd, _events(mask))
        else:
            self.unregister(fd)

    def unregister(self, fd: int) -> None:
        """Forget `fd`."""
        if fd in self._registered:
            self._registered.discard(fd)
            self._selector.unregister(fd)

    def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
        """Wait for events; see `Poller`."""
        ready = self._selector.select(timeout_s)
        return [
            (key.fd, (READ if events & selectors.EVENT_READ else 0) | (WRITE if events & selectors.EVENT_WRITE else 0))
            for key, events in ready
        ]

    def close(self) -> None:
        """Free the selector."""
        self._selector.close()


def _events(mask: int) -> int:
    return (selectors.EVENT_READ if mask & READ else 0) | (selectors.EVENT_WRITE if mask & WRITE else 0)


def open_poller() -> Poller:
    """Return the best poller of this system."""
    if sys.platform == "linux":
        return select.epoll()
    else:
        return SelectorPoller()
