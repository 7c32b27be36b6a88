"""How benchmarks measure and print: percentiles, ratios to a floor of the same run, one row for each thing measured.

Absolute times say more about the machine than about the program. So the cases of a benchmark take turns, one call of
each after the other, with their floor among them: what disturbs one disturbs all, and the ratio of medians stays.
"""

import argparse
import dataclasses
import inspect
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

Case = Callable[[], object | Awaitable[object]]

WARM_UP = 2
"""Rounds that are not counted: allocators and connections settle within fewer."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a report. Times are microseconds for one call; a rate stands in `rate`, in `rate_unit` per second.

    `ratio` compares with `floor` (the other row's name): times by their medians, rates likewise. `target` is the ratio
    (or, without floor, the rate) asked for; at most that for times, at least that for rates. A row about a size has it
    in `size_mib`, and no times; its target is the most that it may be. `limit_us` is a target for a time as such.
    """

    name: str
    count: int
    p50_us: float
    p95_us: float
    p99_us: float
    rate: float | None = None
    rate_unit: str = ""
    floor: str = ""
    ratio: float | None = None
    target: float | None = None
    size_mib: float | None = None
    limit_us: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.limit_us is not None:
            return self.p50_us <= self.limit_us
        if self.target is None:
            return None
        if self.size_mib is not None:
            return self.size_mib <= self.target
        if self.rate is not None:
            return (self.rate if self.ratio is None else self.ratio) >= self.target
        return self.ratio is not None and self.ratio <= self.target


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of the sorted values lie (nearest rank)."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def row(
    name: str,
    seconds: Sequence[float],
    *,
    floor: Row | None = None,
    target: float | None = None,
    amount: float | None = None,
    rate_unit: str = "",
) -> Row:
    """Make a row of the measured times; `amount` is what one call moves, in `rate_unit`."""
    ordered = sorted(seconds)
    p50, p95, p99 = (percentile(ordered, share) * 1e6 for share in (0.50, 0.95, 0.99))
    rate = None if amount is None else amount / p50 * 1e6
    ratio = None
    if floor is not None:
        ratio = rate / floor.rate if rate is not None and floor.rate else p50 / floor.p50_us
    return Row(name, len(ordered), p50, p95, p99, rate, rate_unit, "" if floor is None else floor.name, ratio, target)


async def take_turns(
    cases: Mapping[str, Case], rounds: int, *, block: int = 1, warm_up: int = WARM_UP
) -> dict[str, list[float]]:
    """Call every case `block` times in each round, in order; return the seconds that each call took.

    Cases may be coroutines. A block of calls finds caches as a busy program finds them; single ones pay for what the
    other cases have pushed out. The first of a block is called twice and counted once.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(-warm_up, rounds):
        for name, case in cases.items():
            for position in range(-1 if block > 1 else 0, block):
                start = time.perf_counter()
                result = case()
                if inspect.isawaitable(result):
                    await result
                elapsed = time.perf_counter() - start
                if number >= 0 and position >= 0:
                    seconds[name].append(elapsed)
    return seconds


def size_row(name: str, kib: int, *, target_mib: float | None = None) -> Row:
    """Make a row of a size, which may be at most `target_mib`."""
    return Row(name, 1, 0, 0, 0, target=target_mib, size_mib=kib / 1024)


def spawn() -> None:
    """Start `/bin/true` and wait for it: the floor under everything that runs a command."""
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def spawn_many(count: int) -> None:
    """Start `count` times `/bin/true` and wait for all: the floor under concurrent commands."""
    for pid in [os.posix_spawn("/bin/true", ["true"], {}) for _ in range(count)]:
        os.waitpid(pid, 0)


def table(title: str, rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        f"### {title}",
        "",
        "| | n | p50 µs | p95 µs | p99 µs | rate | ratio to | ratio | target | met |",
        "|---|--:|--:|--:|--:|--:|---|--:|--:|---|",
    ]
    for item in rows:
        rate = "" if item.rate is None else f"{item.rate:,.0f} {item.rate_unit}/s"
        if item.size_mib is not None:
            rate = f"{item.size_mib:.2f} MiB"
        ratio = "" if item.ratio is None else f"{item.ratio:.2f}"
        goal = "" if item.target is None else f"{item.target:,.0f}" if item.target >= 100 else f"{item.target:g}"
        sign = goal and ("≥ " if item.rate is not None else "≤ ") + goal
        if item.size_mib is not None:
            sign = goal and f"≤ {goal} MiB"
        elif item.limit_us is not None:
            sign = f"≤ {item.limit_us:,.0f} µs"
        met = {None: "", True: "yes", False: "**no**"}[item.met]
        times = (item.p50_us, item.p95_us, item.p99_us)
        shown = "  |  | " if item.size_mib is not None else " | ".join(f"{value:,.1f}" for value in times)
        lines.append(f"| {item.name} | {item.count} | {shown} | {rate} | {item.floor} | {ratio} | {sign} | {met} |")
    return "\n".join(lines)


def report(title: str, rows: Sequence[Row], arguments: Sequence[str] | None = None) -> None:
    """Print the rows, as JSON if `--json` is among the program's arguments."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    if parser.parse_args(arguments).json:
        print(json.dumps([{**dataclasses.asdict(item), "met": item.met} for item in rows], indent=1))
    else:
        print(table(title, rows))
