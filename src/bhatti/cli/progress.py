"""What a person sees while something takes long: on a terminal a moving line, otherwise one line per stage.

Everything goes to standard error. `rich` is imported only when somebody is looking: it costs 70 ms.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator

Report = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done, and of how much; 0 of 0 when that cannot be said."""


@contextlib.contextmanager
def shown(title: str, *, quiet: bool = False) -> Iterator[Report]:
    """Show progress for the block; yields what to report it to."""
    if quiet:
        yield lambda stage, done, total: None
    elif sys.stderr.isatty():
        with _moving(title) as report:
            yield report
    else:
        yield _Lines(title)


class _Lines:
    """For logs and pipes: each stage once, as it begins."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._stage = stage
            sys.stderr.write(f"{self._title}: {stage}\n")
            sys.stderr.flush()


@contextlib.contextmanager
def _moving(title: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)

        def report(stage: str, done: int, total: int) -> None:
            progress.update(task, description=f"{title}: {stage}", completed=done, total=total or None)

        yield report
