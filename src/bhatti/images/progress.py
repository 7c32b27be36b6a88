"""How a long build tells a progress bar where it is."""

from typing import Protocol


class Progress(Protocol):
    """Called from the building thread; must return soon and not raise."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say that `done` of `total` units of `stage` are finished; a stage ends when both are equal."""


def silent(stage: str, done: int, total: int) -> None:
    """Ignore the progress: for callers that show none."""
