"""The life of a sandbox: created by boot and by fork, paused, stopped, woken. `python -m bench.life [--json]`."""

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from bench.measure import Row, report, row

from bhatti import paths
from bhatti.engines.qemu.engine import QemuEngine
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.model.sandbox import SandboxSpec

BOOTS = 3
FORKS = 8
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
    for _ in range(count + 1):
        wanted = spec()
        seconds.append(await timed(lambda wanted=wanted: use(opened, wanted)))  # type: ignore[misc]
        await opened._ready.filled()
        await opened.destroy(wanted.id)
    return seconds[1:]  # the first one found it empty


async def together(opened: QemuEngine) -> float:
    """Create some sandboxes at the same time; return when the last has answered."""
    wanted = [spec() for _ in range(TOGETHER)]
    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for one in wanted:
            tasks.start_soon(use, opened, one)
    seconds = time.perf_counter() - began
    for one in wanted:
        await opened.destroy(one.id)
    return seconds


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
    """Boot, fork, pause and stop machines."""
    with tempfile.TemporaryDirectory(prefix="bhatti-bench-") as home:
        async with engine(Path(home) / "boots", fork=False) as opened:
            boots = await creations(opened, BOOTS)
            resident = spec()
            await opened.create(resident)
            small = await pauses(opened, resident.id) | await sleeps(opened, resident.id)
            await opened.destroy(resident.id)
            resident = spec(LARGE_MIB)
            await opened.create(resident)
            large = await sleeps(opened, resident.id)
        async with engine(Path(home) / "forks", fork=True) as opened:
            await opened.prepare(spec())
            forks = await creations(opened, FORKS)
            crowd = await together(opened)
        async with engine(Path(home) / "ready", fork=True, ready_pool=1) as opened:
            await opened.prepare(spec())
            ready = await taken(opened, FORKS)
    cold = row("create by boot, to the first exec", boots)
    fork = row("create by fork, to the first exec", forks, floor=cold, target=0.15)
    hot = row("exec true, hot", small["exec, hot"])
    return [
        cold,
        fork,
        row("create from the ready pool, to the first exec", ready, floor=cold, target=0.03),
        row(f"{TOGETHER} created together, until all have answered", [crowd], floor=fork, target=2.5),
        row("pause", small["pause"]),
        row("resume", small["resume"]),
        hot,
        row("exec true, warm", small["exec, warm"], floor=hot),
        row("stop, 512 MiB, second and later", small["stop"]),
        row(f"stop, {LARGE_MIB} MiB, second and later", large["stop"]),
        row("wake from cold to the first exec, page cache dropped", small["wake"], floor=cold, target=0.15),
    ]


def rows() -> list[Row]:
    """Measure everything."""
    return asyncio.run(measure())


if __name__ == "__main__":
    report("The life of a sandbox", rows())
