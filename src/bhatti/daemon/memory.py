"""How much of the host's memory is promised, and to whom there is still some to promise.

Promised is what sandboxes that run, paused ones included, may come to use, and those that are being made or woken, and
forks that are kept ready. A stopped one has given its memory back. Guests use less than they may, and forks share most
of it, so that more can be promised than there is: `limits.memory_overcommit` times. Looking and promising are one step
of the event loop, before the first wait of an order: any number of them at once stay within the bound.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator

from bhatti.daemon.settings import Limits
from bhatti.errors import LimitExceeded
from bhatti.model.sandbox import Status
from bhatti.store.sandboxes import Record

HOLDING = (Status.CREATING, Status.RUNNING)
"""Whose memory is promised to them."""


def host_memory_mib() -> int:
    """Return how much memory the host has."""
    return (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) >> 20


class MemoryBudget:
    """The memory of one host, `total_mib` of it, and who has been promised a part.

    `sandboxes` are all that there are; `ready_mib` returns what forks take that nobody has asked for yet.
    """

    def __init__(
        self, limits: Limits, total_mib: int, sandboxes: Callable[[], Iterable[Record]], ready_mib: Callable[[], int]
    ) -> None:
        self._limits = limits
        self._total_mib = total_mib
        self._sandboxes = sandboxes
        self._ready_mib = ready_mib
        self._waking: set[str] = set()

    @property
    def bound_mib(self) -> int:
        """How much may be promised in all."""
        return int(self._total_mib * self._limits.memory_overcommit)

    def promised_mib(self, *, besides: str = "") -> int:
        """Return how much is promised to all but one sandbox."""
        held = sum(
            record.spec.memory_mib
            for record in self._sandboxes()
            if record.id != besides and (record.status in HOLDING or record.id in self._waking)
        )
        return held + self._ready_mib()

    def check(self, record: Record) -> None:
        """Raise `LimitExceeded` (code `host-memory`) unless a sandbox can be promised its memory."""
        asked, promised = record.spec.memory_mib, self.promised_mib(besides=record.id)
        if promised + asked <= self.bound_mib:
            return
        raise LimitExceeded(
            f"{asked} MiB of memory cannot be promised to sandbox {record.name!r}: this host has {self._total_mib} MiB,"
            f" {self.bound_mib} may be promised, {promised} are",
            hint="stop a sandbox that is not needed now (`bhatti ls`, `bhatti stop NAME`), ask for less, or raise"
            " limits.memory_overcommit",
            code="host-memory",
        )

    @contextlib.contextmanager
    def promised(self, record: Record) -> Iterator[None]:
        """Promise a sandbox that is not running its memory while it is brought up. Raises like `check`."""
        self.check(record)
        self._waking.add(record.id)
        try:
            yield
        finally:
            self._waking.discard(record.id)
