"""The life of a sandbox: created by boot and by fork, paused, stopped, woken. `python -m bench.life [--json]`."""

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
from bench.measure import Row, report, row

from bhatti import paths
from bhatti.engines.qemu.engine import QemuEngine
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.model.sandbox import SandboxSpec

BOOTS = 4
FORKS = 3
TURNS = 8
TOGETHER = 10
LARGE_MIB = 4096


def spec(memory_mib: int = 512) -> SandboxSpec:
    """Return a sandbox of the default shape, or one with more memory."""
    return SandboxSpec(
        id=secrets.token_hex(8),
        name="bench",
        image="base",
        cpus=1,
        memory_mib=memory_mib,
        disk_mib=1024,
        token=secrets.token_hex(16),
    )


@asynccontextmanager
async def engine(home: Path, *, fork: bool, ready_pool: int = 0) -> AsyncIterator[QemuEngine]:
    """Open an engine; what is left in it at the end is destroyed."""
    settings = QemuSettings(state_dir=home, images_dir=Path(paths.images_dir()), fork=fork, ready_pool=ready_pool)
    async with QemuEngine(settings) as opened:
        await opened.adopt()
        try:
            yield opened
        finally:
            for machine in await opened.list():
                await opened.destroy(machine.id)


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return how many seconds `work` takes."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def use(opened: QemuEngine, wanted: SandboxSpec) -> None:
    """Create a sandbox and run its first command."""
    await opened.create(wanted)
    await opened.link(wanted.id).exec(["true"])


async def creations(opened: QemuEngine, count: int) -> list[float]:
    """Create sandboxes one after the other."""
    seconds = []
    for _ in range(count):
        wanted = spec()
        seconds.append(await timed(lambda wanted=wanted: use(opened, wanted)))  # type: ignore[misc]
        await opened.destroy(wanted.id)
    return seconds


async def taken(opened: QemuEngine, count: int) -> list[float]:
    """Create sandboxes one after the other, each from a pool that had the time to be filled."""
    seconds = []
    for _ in range(count):
        wanted = spec()
        seconds.append(await timed(lambda wanted=wanted: use(opened, wanted)))  # type: ignore[misc]
        await opened._ready.filled()
        await opened.destroy(wanted.id)
    return seconds


async def ways(home: Path) -> tuple[list[float], list[float], list[float], list[tuple[float, float]]]:
    """Create by boot, by fork, from the ready pool, and many forks together, all taking turns."""
    boots: list[float] = []
    forks: list[float] = []
    ready: list[float] = []
    crowds: list[tuple[float, float]] = []
    async with (
        engine(home / "boots", fork=False) as booting,
        engine(home / "forks", fork=True) as forking,
        engine(home / "ready", fork=True, ready_pool=1) as pooling,
    ):
        for opened in (forking, pooling):
            await opened.prepare(spec())
        await taken(pooling, 1)  # the first one finds it empty
        for _ in range(BOOTS):
            boots += await creations(booting, 1)
            forks += await creations(forking, FORKS)
            ready += await taken(pooling, FORKS)
            crowds.append(await together(forking))
    return boots, forks, ready, crowds


async def together(opened: QemuEngine) -> tuple[float, float]:
    """Create some sandboxes at the same time; return when the last has answered, and the processor time of all."""
    wanted = [spec() for _ in range(TOGETHER)]
    ours = time.process_time()
    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for one in wanted:
            tasks.start_soon(use, opened, one)
    seconds = time.perf_counter() - began
    used = time.process_time() - ours
    for one in wanted:
        used += processor_time((await opened.status(one.id)).pid)
        await opened.destroy(one.id)
    return seconds, used


def processor_time(pid: int | None) -> float:
    """Return the seconds that a process has computed, the kernel's for it included (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def pauses(opened: QemuEngine, sandbox_id: str) -> dict[str, list[float]]:
    """Pause and resume; and run a command in a sandbox that has to be resumed for it."""
    seconds: dict[str, list[float]] = {"pause": [], "resume": [], "exec, hot": [], "exec, warm": []}
    link = opened.link(sandbox_id)

    async def woken() -> None:
        await opened.ensure_hot(sandbox_id)
        await link.exec(["true"])

    for _ in range(TURNS):
        seconds["pause"].append(await timed(lambda: opened.pause(sandbox_id)))
        seconds["resume"].append(await timed(lambda: opened.resume(sandbox_id)))
        seconds["exec, hot"].append(await timed(lambda: link.exec(["true"])))
        await opened.pause(sandbox_id)
        seconds["exec, warm"].append(await timed(woken))
    return seconds


async def sleeps(opened: QemuEngine, sandbox_id: str) -> dict[str, list[float]]:
    """Stop and wake, after a first time that is not counted; the host's page cache is dropped in between."""
    seconds: dict[str, list[float]] = {"stop": [], "wake": []}

    async def woken() -> None:
        await opened.ensure_hot(sandbox_id)
        await opened.link(sandbox_id).exec(["true"])

    await opened.stop(sandbox_id)
    await woken()
    for _ in range(TURNS):
        seconds["stop"].append(await timed(lambda: opened.stop(sandbox_id)))
        # Waits for what a stop leaves to be done in background, which would read back what is dropped now.
        await opened.verify_snapshot(sandbox_id, content=True)
        await anyio.to_thread.run_sync(drop_cache, opened.settings.sandboxes_dir / sandbox_id)
        seconds["wake"].append(await timed(woken))
    return seconds


def drop_cache(directory: Path) -> None:
    """Make the kernel forget the content of the files below a directory, which are durable by now."""
    for path in directory.iterdir():
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


async def measure() -> list[Row]:
    """Boot, fork, pause and stop machines: three minutes."""
    with tempfile.TemporaryDirectory(prefix="bhatti-bench-") as home:
        boots, forks, ready, crowds = await ways(Path(home))
        async with engine(Path(home) / "sleepers", fork=False) as opened:
            resident = spec()
            await opened.create(resident)
            small = await pauses(opened, resident.id) | await sleeps(opened, resident.id)
            await opened.destroy(resident.id)
            resident = spec(LARGE_MIB)
            await opened.create(resident)
            large = await sleeps(opened, resident.id)
        async with engine(Path(home) / "pool", fork=True, ready_pool=TOGETHER) as opened:
            await opened.prepare(spec())
            await use(opened, spec())
            await opened._ready.filled()
            pooled, _ = await together(opened)
    cold = row("create by boot, to the first exec", boots)
    fork = row("create by fork, to the first exec", forks, floor=cold, target=0.15)
    hot = row("exec true, hot", small["exec, hot"])
    pool = row("create from the ready pool, to the first exec", ready, floor=cold, target=0.03)
    woken = [warm - hot for warm, hot in zip(small["exec, warm"], small["exec, hot"], strict=True)]
    computed = row(
        f"  their processor time, on {os.cpu_count()} cores", [used / (os.cpu_count() or 1) for _, used in crowds]
    )
    return [
        cold,
        fork,
        within(fork, 600, "  as a time"),
        pool,
        within(row("  beyond the exec itself", [one - hot.p50_us / 1e6 for one in ready]), 80),
        row(
            f"{TOGETHER} forks together, until all have answered", [all_ for all_, _ in crowds], floor=fork, target=2.5
        ),
        computed,
        row(f"{TOGETHER} from the ready pool together", [pooled], floor=fork, target=2.5),
        within(row("pause", small["pause"]), 5),
        within(row("resume", small["resume"]), 5),
        hot,
        within(row("exec true, warm, beyond hot", woken), 10),
        within(row("stop, 512 MiB, second and later", small["stop"]), 100),
        within(row(f"stop, {LARGE_MIB} MiB, second and later", large["stop"]), 100),
        row("wake from cold to the first exec, page cache dropped", small["wake"], floor=cold, target=0.15),
    ]


def within(found: Row, most_ms: float, name: str = "") -> Row:
    """Return a row whose target is a time, in milliseconds."""
    return replace(found, name=name or found.name, floor="", ratio=None, target=None, limit_us=most_ms * 1000)


def rows() -> list[Row]:
    """Measure everything."""
    return asyncio.run(measure())


if __name__ == "__main__":
    report("The life of a sandbox", rows())
