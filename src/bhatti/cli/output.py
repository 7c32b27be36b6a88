"""Tables and words for people: aligned columns, ages, sizes; colour on terminals alone."""

import datetime
import os
import sys
from collections.abc import Sequence

COLOURS = {"running": "32", "ok": "32", "warning": "33", "stopped": "33", "creating": "36", "failed": "31"}
"""Words that mean good, middling and bad, and their ANSI colours."""


def coloured() -> bool:
    """Say whether standard output is a terminal of somebody who wants colour (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below headings, in columns as wide as they need."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    paint = coloured()
    for number, row in enumerate([headings, *rows]):
        cells = []
        for text, width in zip(row, widths, strict=True):
            padded = text.ljust(width)
            colour = COLOURS.get(text) if paint and number else None
            cells.append(f"\033[{colour}m{padded}\033[0m" if colour else padded)
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def pairs(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values, the values in one column; values of several lines stay in it."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        first, *more = value.splitlines() or [""]
        sys.stdout.write(f"{name.ljust(width)}  {first}\n")
        sys.stdout.writelines(f"{' ' * width}  {line}\n" for line in more)


def age(moment: datetime.datetime, now: datetime.datetime | None = None) -> str:
    """Return how long ago `moment` was, in its two largest units (`3 min`, `2 h 5 min`, `4 d 1 h`)."""
    seconds = int(((now or datetime.datetime.now(datetime.UTC)) - moment).total_seconds())
    if seconds < 60:
        return f"{max(seconds, 0)} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def size(mib: int) -> str:
    """Return a size given in MiB, in the unit that reads best."""
    return f"{mib / 1024:g} GiB" if mib >= 1024 and mib % 256 == 0 else f"{mib} MiB"
