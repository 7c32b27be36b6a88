"""The one thread's event loop: descriptors, timers, and what is to run at the end of a turn.

Everything in the agent is a callback of this loop; nothing may block it. `asyncio` would do the same at 40 ms more
start-up, 6 MB more memory and three times the cost per event, which the 150 ms, 14 MB and 1.15 x of the agent's
figures do not allow.
"""

from __future__ import annotations

import heapq
import sys
import time

from lohar.poller import open_poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lohar.poller import Poller


SWEEP_AT = 64
"""Timers at which cancelled ones are looked for; fewer are not worth the walk."""


class Timer:
    """A callback at a time; `cancel` it when it is not wanted any more. `callback` is None once it ran or will not."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None] | None) -> None:
        self.when = when
        self.callback = callback

    def cancel(self) -> None:
        """Make sure that the callback does not run, and let go of what it refers to."""
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class Loop:
    """Runs callbacks until `stop`. A callback's exception is reported on stderr and ends that callback alone.

    One broken request must never take the agent, and with it the machine, along; what a connection's callback raises
    is handled nearer (`lohar.connection`), this is the last net.
    """

    def __init__(self, poller: Poller | None = None) -> None:
        self._poller = poller if poller is not None else open_poller()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._new: set[int] = set()
        self._timers: list[Timer] = []
        self._sweep_at = SWEEP_AT
        self._soon: list[Callable[[], object]] = []
        self._running = False

    def register(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        """Call `callback(mask)` when `fd` is ready for what `mask` asks (`lohar.poller`), or is gone."""
        self._poller.register(fd, mask)
        self._callbacks[fd] = callback
        self._new.add(fd)

    def modify(self, fd: int, mask: int) -> None:
        """Change what `fd` is watched for."""
        self._poller.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        """Forget `fd`; call it before closing. Does nothing if it is not registered."""
        if self._callbacks.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` once, `delay_s` seconds from now at the earliest."""
        if len(self._timers) >= self._sweep_at:
            self._sweep()
        timer = Timer(time.monotonic() + delay_s, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def _sweep(self) -> None:
        # Ten thousand commands with an hour's limit each would otherwise leave as many dead timers for that hour.
        self._timers = [timer for timer in self._timers if timer.callback is not None]
        heapq.heapify(self._timers)
        self._sweep_at = max(SWEEP_AT, 2 * len(self._timers))

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Run `callback` after the callbacks that are due now, before waiting again."""
        self._soon.append(callback)

    def stop(self) -> None:
        """Make `run` return after this turn."""
        self._running = False

    def run(self) -> None:
        """Serve until `stop`."""
        self._running = True
        while self._running:
            self.turn(None)

    def turn(self, timeout_s: float | None) -> None:
        """Wait at most `timeout_s` (None: until something happens) and run what is due."""
        wait = self._patience(timeout_s)
        events = self._poller.poll(wait)
        callbacks = self._callbacks
        new = self._new
        new.clear()
        for fd, mask in events:
            # A descriptor closed and opened again within this turn is another file: the event was not meant for it.
            # If it is ready as well, the next turn says so.
            if fd in new:
                continue
            callback = callbacks.get(fd)
            if callback is not None:
                try:
                    callback(mask)
                except Exception:
                    self._report()
        if self._timers:
            self._run_timers()
        if self._soon:
            # One generation a turn: a callback that asks to be called again must not keep the events away.
            due, self._soon = self._soon, []
            for action in due:
                self._guard(action)

    def _patience(self, timeout_s: float | None) -> float | None:
        if self._soon:
            return 0
        timers = self._timers
        while timers and timers[0].callback is None:
            heapq.heappop(timers)
        if not timers:
            return timeout_s
        wait = max(0.0, timers[0].when - time.monotonic())
        return wait if timeout_s is None else min(wait, timeout_s)

    def _run_timers(self) -> None:
        now = time.monotonic()
        timers = self._timers
        while timers and (timers[0].when <= now or timers[0].callback is None):
            timer = heapq.heappop(timers)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                self._guard(callback)

    def _guard(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:
            self._report()

    def _report(self) -> None:
        print("lohar: a callback failed; this is a defect of the agent", file=sys.stderr)
        # The interpreter's own printer: the module `traceback` would cost 4 ms of every start.
        sys.excepthook(*sys.exc_info())

    def close(self) -> None:
        """Free the poller."""
        self._poller.close()
