"""A machine from nothing to its first answer, and what each part of that takes. `python -m bench.boot [--json]`."""

import asyncio
import secrets
import tempfile
import time
from pathlib import Path

from bench.measure import Row, report, row, take_turns

from bhatti import paths
from bhatti.engines.qemu.engine import QemuEngine
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.guestlink.client import GuestLink
from bhatti.model.sandbox import SandboxSpec

BOOTS = 7
EXECS = 40

PARTS = tuple(f"guest.{part}" for part in ("kernel", "initramfs", "mounts", "python", "network", "setup", "listen"))
"""As the agent's ready line has them; what QEMU and its firmware take is the rest of the whole."""


def spec(number: int) -> SandboxSpec:
    """Return a sandbox of the default shape."""
    return SandboxSpec(
        id=secrets.token_hex(8),
        name=f"bench-{number}",
        image="base",
        cpus=1,
        memory_mib=512,
        disk_mib=1024,
        token=secrets.token_hex(16),
    )


async def commands(link: GuestLink) -> dict[str, list[float]]:
    """Run commands in a machine that is up."""
    cases = {
        "in the guest: round trip without a command": lambda: link.stat("/"),
        "in the guest: exec true": lambda: link.exec(["true"]),
    }
    return await take_turns(cases, EXECS)


async def measure() -> list[Row]:
    """Boot machines one after the other; in the last one run commands."""
    whole: list[float] = []
    parts: dict[str, list[float]] = {name: [] for name in ("host: drives, tap, QEMU", "firmware", *PARTS)}
    with tempfile.TemporaryDirectory(prefix="bhatti-bench-") as home:
        settings = QemuSettings(state_dir=Path(home), images_dir=Path(paths.images_dir()), fork=False)
        settings.sandboxes_dir.mkdir()
        async with QemuEngine(settings) as engine:
            for number in range(BOOTS):
                wanted = spec(number)
                began = time.perf_counter()
                machine = await engine.create(wanted)
                whole.append(time.perf_counter() - began)
                timings = machine.timings_ms
                for name in PARTS:
                    parts[name].append(timings.get(name, 0.0) / 1000)
                parts["firmware"].append((timings["agent"] - timings["guest.total"]) / 1000)
                parts["host: drives, tap, QEMU"].append((timings["total"] - timings["agent"]) / 1000)
                if number == BOOTS - 1:
                    turns = await commands(engine.link(wanted.id))
                await engine.destroy(wanted.id)
    boot = row("boot to the agent's first answer", whole)
    return [
        boot,
        *(row(f"  {name.removeprefix('guest.')}", seconds, floor=boot) for name, seconds in parts.items()),
        *(row(name, seconds, floor=boot) for name, seconds in turns.items()),
    ]


def rows() -> list[Row]:
    """Measure everything."""
    return asyncio.run(measure())


if __name__ == "__main__":
    report("A machine from nothing", rows())
