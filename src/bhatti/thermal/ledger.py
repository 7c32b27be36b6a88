"""Who is in which sandbox, and when somebody last was: what the host knows without asking the guest.

Everything here happens on one event loop and in single steps, so that "nobody is in" and "nobody gets in" can be told
apart: whoever wants in is written down first and looks at the machine afterwards.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bhatti.model.sandbox import Temperature
from bhatti.thermal.policy import GuestFacts
from lohar.wire.messages import Facts

Clock = Callable[[], float]


@dataclass(eq=False, slots=True)
class Visit:
    """One call into a guest. `doing` is a clause for people, and may become more exact while the visit lasts."""

    doing: str


@dataclass(frozen=True, slots=True)
class Look:
    """What a guest said when it was last asked, and when that was."""

    at: float
    facts: Facts


@dataclass(eq=False, slots=True)
class Entry:
    """What is known of one sandbox. Moments are the ledger's clock's.

    `warm` says that its processors were halted; `next_look` when the guest may be asked again; `asleep_because` why it
    was put to sleep, for people; `trouble` what went wrong when that was last tried.
    """

    last_active: float
    visits: list[Visit] = field(default_factory=list)
    warm: bool = False
    guest: GuestFacts | None = None
    look: Look | None = None
    unanswered: int = 0
    next_look: float = 0.0
    asleep_because: str = ""
    trouble: str = ""

    @property
    def temperature(self) -> Temperature:
        """Hot or warm: cold ones have no machine to know of."""
        return Temperature.WARM if self.warm else Temperature.HOT


class Ledger:
    """One entry per sandbox that this daemon has met, from the first time it is asked for."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._entries: dict[str, Entry] = {}

    def entry(self, sandbox_id: str) -> Entry:
        """Return the entry; a new one counts as active now."""
        if (found := self._entries.get(sandbox_id)) is None:
            found = self._entries[sandbox_id] = Entry(self.clock())
        return found

    def is_warm(self, sandbox_id: str) -> bool:
        """Return whether its processors were halted. One that is gone is not warm, and does not come back by this."""
        found = self._entries.get(sandbox_id)
        return found is not None and found.warm

    def forget(self, sandbox_id: str) -> None:
        """Drop the entry of a sandbox that is gone."""
        self._entries.pop(sandbox_id, None)

    def touch(self, sandbox_id: str) -> Entry:
        """Note that somebody has just used the sandbox; what its guest said before no longer counts."""
        entry = self.entry(sandbox_id)
        entry.last_active, entry.guest, entry.next_look, entry.trouble = self.clock(), None, 0.0, ""
        return entry

    def awake(self, sandbox_id: str) -> None:
        """Note that the sandbox is hot, because somebody wanted it."""
        entry = self.touch(sandbox_id)
        entry.warm, entry.asleep_because = False, ""

    def asleep(self, sandbox_id: str, reason: str, *, warm: bool) -> None:
        """Note that the sandbox was put to sleep: halted, or with its memory on the disk."""
        entry = self.entry(sandbox_id)
        entry.warm, entry.asleep_because, entry.trouble = warm, reason, ""
        entry.guest, entry.look, entry.unanswered, entry.next_look = None, None, 0, 0.0

    def visiting(self, sandbox_id: str, doing: str) -> "Visiting":
        """Count a call into the guest for as long as the block runs, which gets the `Visit`."""
        return Visiting(self, sandbox_id, doing)

    def left(self, sandbox_id: str, visit: Visit) -> None:
        """Note that a call into the guest is over."""
        # Not `entry` once more: a sandbox that was destroyed meanwhile must not come back.
        if (entry := self._entries.get(sandbox_id)) is not None and visit in entry.visits:
            entry.visits.remove(visit)
            self.touch(sandbox_id)


class Visiting:
    """See `Ledger.visiting`. A class, which takes half of a generator's time: every call into a guest comes by."""

    __slots__ = ("_ledger", "_sandbox_id", "_visit")

    def __init__(self, ledger: Ledger, sandbox_id: str, doing: str) -> None:
        self._ledger = ledger
        self._sandbox_id = sandbox_id
        self._visit = Visit(doing)

    def __enter__(self) -> Visit:
        self._ledger.touch(self._sandbox_id).visits.append(self._visit)
        return self._visit

    def __exit__(self, *_: object) -> None:
        self._ledger.left(self._sandbox_id, self._visit)
