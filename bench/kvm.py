"""The VM engines on KVM, beside each other: in the lab, or on a host with KVM. `python -m bench.kvm [--json]`.

Firecracker is measured where BHATTI_FIRECRACKER names one, or PATH has it.
"""

import asyncio
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.life import spec, timed, use
from bench.measure import Row, report, row

from bhatti import paths
from bhatti.engines.firecracker.engine import FirecrackerEngine
from bhatti.engines.firecracker.settings import FirecrackerSettings
from bhatti.engines.qemu.engine import QemuEngine
from bhatti.engines.qemu.settings import QemuSettings

ROUNDS = 3
PAUSES = 5
MEMORY_MIB = 256
BOOT_TIMEOUT_S = 300.0
"""In the lab a boot takes a minute on a busy host."""

Times = dict[str, list[float]]


@asynccontextmanager
async def engine(name: str, home: Path, *, fork: bool) -> AsyncIterator[QemuEngine]:
    """Open one of the engines; what is left in it at the end is destroyed."""
    images = Path(paths.images_dir())
    opened: QemuEngine
    if name == "qemu":
        settings = QemuSettings(state_dir=home, images_dir=images, fork=fork, boot_timeout_s=BOOT_TIMEOUT_S)
        opened = QemuEngine(settings)
    else:
        binary = os.environ.get("BHATTI_FIRECRACKER", "")
        opened = FirecrackerEngine(
            FirecrackerSettings(
                state_dir=home, images_dir=images, fork=fork, boot_timeout_s=BOOT_TIMEOUT_S, binary=binary
            )
        )
    async with opened:
        await opened.adopt()
        try:
            yield opened
        finally:
            for machine in await opened.list():
                await opened.destroy(machine.id)


async def life(opened: QemuEngine, seconds: Times) -> None:
    """Boot one machine, pause it, put it to sleep twice."""
    wanted = spec(MEMORY_MIB)
    name = wanted.id

    async def woken() -> None:
        await opened.start(name, require_memory=True)
        await opened.link(name).exec(["true"])

    async def paused() -> None:
        await opened.pause(name)
        await opened.resume(name)

    async def halted() -> None:
        await opened._machines[name]._halt()
        await opened._machines[name]._run()

    seconds["boot"].append(await timed(lambda: use(opened, wanted)))
    for _ in range(PAUSES):
        seconds["status"].append(await timed(lambda: opened.status(name)))
        seconds["halt"].append(await timed(halted))
        seconds["pause"].append(await timed(paused))
    for stop in ("first stop", "second stop"):
        seconds[stop].append(await timed(lambda: opened.stop(name)))
        # Waits for what a stop leaves to be done in background.
        await opened.verify_snapshot(name, content=True)
        seconds["restore"].append(await timed(woken))
    await opened.destroy(name)


async def clone(opened: QemuEngine, seconds: Times) -> None:
    """Make one machine of the golden snapshot."""
    wanted = spec(MEMORY_MIB)
    seconds["clone"].append(await timed(lambda: use(opened, wanted)))
    assert (await opened.status(wanted.id)).how == "forked"
    await opened.destroy(wanted.id)


def compared(name: str, accelerator: str, seconds: Times) -> list[Row]:
    """Return the rows of one engine, whose names begin with its own."""

    def named(what: str) -> str:
        return f"{name} ({accelerator}): {what}"

    boot = row(named("boot to the first exec"), seconds["boot"])
    first = row(named("first stop"), seconds["first stop"])
    status = row(named("a question to its API"), seconds["status"])
    # With QEMU all of the memory is in a file from the start, and the first stop is as short as any.
    lesser = 0.3 if name == "firecracker" else None
    return [
        boot,
        row(named("clone of the golden snapshot to the first exec"), seconds["clone"], floor=boot, target=0.2),
        row(named("restore to the first exec"), seconds["restore"], floor=boot, target=0.2),
        first,
        row(named("second stop"), seconds["second stop"], floor=first, target=lesser),
        status,
        row(named("the orders to halt and to run"), seconds["halt"], floor=status, target=2),
        row(named("pause and resume, the guest told the time"), seconds["pause"], floor=status),
    ]


async def measure() -> list[Row]:
    """Let the engines take turns."""
    names = ["qemu"]
    if shutil.which(os.environ.get("BHATTI_FIRECRACKER") or "firecracker"):
        names.append("firecracker")
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bhatti-bench-")))
        opened = {
            name: [
                await stack.enter_async_context(engine(name, home / f"{name}-{fork}", fork=fork))
                for fork in (False, True)
            ]
            for name in names
        }
        seconds: dict[str, Times] = {name: defaultdict(list) for name in names}
        for _, forking in opened.values():
            await forking.prepare(spec(MEMORY_MIB))
        for _ in range(ROUNDS):
            for name, (booting, forking) in opened.items():
                await life(booting, seconds[name])
                await clone(forking, seconds[name])
        return [
            found
            for name, (booting, _) in opened.items()
            for found in compared(name, booting.host.verdict.accelerator, seconds[name])
        ]


def rows() -> list[Row]:
    """Measure everything."""
    return asyncio.run(measure())


if __name__ == "__main__":
    report("The VM engines on KVM", rows())
