"""A stop-watch for the parts of a start, which also tells whoever waits what begins."""

import time

from bhatti.engines.base import ProgressCallback


def nobody_asked(stage: str) -> None:
    """Take the place of a progress callback."""


class Stages:
    """Runs from its making; `begin` ends one stage and starts the next, `end` ends the last."""

    def __init__(self, progress: ProgressCallback, first: str) -> None:
        self.timings_ms: dict[str, float] = {}
        self._progress = progress
        self._started = self._since = time.monotonic()
        self._name = first
        progress(first)

    def begin(self, name: str) -> None:
        """End the current stage and begin `name`."""
        self._stop()
        self._name = name
        self._progress(name)

    def end(self) -> None:
        """End the last stage; `timings_ms` is complete with `total`."""
        self._stop()
        self.timings_ms["total"] = round((time.monotonic() - self._started) * 1000, 1)

    def _stop(self) -> None:
        now = time.monotonic()
        self.timings_ms[self._name] = round((now - self._since) * 1000, 1)
        self._since = now
