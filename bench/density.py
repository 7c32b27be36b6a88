"""Many sandboxes: alive at once, and asleep. `python -m bench.density [--json]`, five to ten minutes and 20 GB of disk.

Where there is less memory or disk there are fewer of them, and the rows say how many. Everything is removed at the end.
"""

import asyncio
import os
import random
import shutil
import tempfile
from pathlib import Path

import anyio
from bench.life import drop_cache, engine, spec, timed, use
from bench.measure import Row, report, row, size_row

from bhatti.engines.qemu.engine import QemuEngine

ALIVE = 60
COLD = 200
WOKEN = 10

ALIVE_MIB = 96
"""What one that is alive may take of the host: twice what is measured."""

COLD_MIB = 160
"""What one that sleeps may take of the disk: its first stop writes all that it has in use, once more."""


async def create(opened: QemuEngine, count: int, alive: list[str]) -> list[float]:
    """Create sandboxes one after the other, each having run a command."""
    seconds = []
    for _ in range(count):
        wanted = spec()
        seconds.append(await timed(lambda wanted=wanted: use(opened, wanted)))  # type: ignore[misc]
        alive.append(wanted.id)
    return seconds


async def answers(opened: QemuEngine, alive: list[str]) -> list[float]:
    """Run a command in each of them."""
    return [await timed(lambda one=one: opened.link(one).exec(["true"])) for one in alive]  # type: ignore[misc]


async def memory_of(opened: QemuEngine, alive: list[str]) -> dict[str, list[int]]:
    """Return what each process takes: alone, and with its share of what several have. In KiB (proc_pid_smaps(5))."""
    found: dict[str, list[int]] = {"alone": [], "with its share": []}
    for one in alive:
        pid = (await opened.status(one)).pid
        rollup = await anyio.Path(f"/proc/{pid}/smaps_rollup").read_text()
        fields = dict(line.split(":") for line in rollup.splitlines()[1:])
        size = {name: int(value.split()[0]) for name, value in fields.items()}
        found["alone"].append(size["Private_Clean"] + size["Private_Dirty"])
        found["with its share"].append(size["Pss"])
    return found


def available_kib() -> int:
    """Return how much memory the host has to give away now."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1])
    raise LookupError("MemAvailable")


def disk_kib(directory: Path) -> int:
    """Return what the files below a directory take."""
    return sum(path.stat().st_blocks for path in directory.rglob("*") if path.is_file()) // 2


async def wake(opened: QemuEngine, one: str) -> None:
    """Start a sandbox and run a command in it."""
    await opened.ensure_hot(one)
    await opened.link(one).exec(["true"])


async def measure() -> list[Row]:
    """Fill the host with sandboxes that are alive, then the disk with sleeping ones."""
    with tempfile.TemporaryDirectory(prefix="bhatti-bench-") as home:
        count = min(ALIVE, available_kib() // 1024 // 2 // ALIVE_MIB)
        cold = min(COLD, shutil.disk_usage(home).free // 2 // (COLD_MIB << 20))
        async with engine(Path(home), fork=True) as opened:
            await opened.prepare(spec())
            directory = opened.settings.sandboxes_dir
            alive: list[str] = []
            before = available_kib()
            created = await create(opened, count, alive)
            taken = (before - available_kib()) // count
            answered = await answers(opened, alive)
            memory = await memory_of(opened, alive)
            slept: list[float] = []
            asleep: list[str] = []
            while alive or len(asleep) < cold:
                if not alive:
                    await create(opened, min(count, cold - len(asleep)), alive)
                one = alive.pop()
                slept.append(await timed(lambda one=one: opened.stop(one)))  # type: ignore[misc]
                asleep.append(one)
            disk = disk_kib(directory) // len(asleep)
            os.sync()
            woken = []
            for one in random.Random(4).sample(asleep, WOKEN):
                drop_cache(directory / one)
                woken.append(await timed(lambda one=one: wake(opened, one)))  # type: ignore[misc]
    return [
        row(f"create by fork, {count} one after the other", created),
        row(f"exec true, in each of {count} that are alive", answered),
        size_row("memory of a fork that nobody else has, median", sorted(memory["alone"])[count // 2], target_mib=50),
        size_row("  the same and its share of the common base", sorted(memory["with its share"])[count // 2]),
        size_row("  what the host has less for each", taken, target_mib=50),
        row(f"first stop, {len(asleep)} one after the other", slept),
        size_row("disk of one that sleeps, mean", disk),
        row(f"wake one of {len(asleep)}, to the first exec, page cache dropped", woken),
    ]


def rows() -> list[Row]:
    """Measure everything."""
    return asyncio.run(measure())


if __name__ == "__main__":
    report("Many sandboxes at once", rows())
