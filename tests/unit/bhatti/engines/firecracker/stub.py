"""The engine with the real Firecracker, around guests that do nothing but halt.

Even a KVM runs them that can run no real guest, so what the host does is tested where no sandbox could be.
"""

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.firecracker import need_firecracker
from tests.unit.bhatti.engines.qemu.stub import HANG, StubImages, forget_the_agent

from bhatti.engines.firecracker import host, jail
from bhatti.engines.firecracker.cgroups import find_groups
from bhatti.engines.firecracker.engine import FirecrackerEngine
from bhatti.engines.firecracker.settings import AUTO, FirecrackerSettings, JailLimits
from bhatti.engines.firecracker.version import find_firecracker
from bhatti.engines.qemu.accelerator import Verdict, device_obstacle
from bhatti.errors import MissingDependency
from bhatti.net.abilities import bridge_ability

LIMITS = JailLimits(cpu_percent=50, memory_spare_mib=64, tasks=32)


def settings_of(directory: Path) -> FirecrackerSettings:
    """Return settings of an engine in `directory`, with jails and their limits wherever this host can have them.

    Skips the test, saying so, where there is no Firecracker, or it has no KVM or no bridge.
    """
    binary = need_firecracker()
    if (obstacle := device_obstacle()) is not None:
        pytest.skip(f"needs KVM: {obstacle}")
    if not bridge_ability().able:
        pytest.skip(f"needs a bridge: {bridge_ability().reason}")
    return FirecrackerSettings(
        state_dir=directory / "state",
        images_dir=directory,
        binary=binary,
        boot_timeout_s=60,
        fork=False,
        jail_limits=LIMITS if able_to_limit(binary) else JailLimits(),
    )


def able_to_limit(binary: str) -> bool:
    """Tell whether machines of that Firecracker can be in jails with limits on this host."""
    try:
        find_groups()
    except MissingDependency:
        return False
    return bool(jail.choose_jailer(AUTO, find_firecracker(binary)).path)


@asynccontextmanager
async def opened(settings: FirecrackerSettings) -> AsyncIterator[FirecrackerEngine]:
    """Open an engine whose image `stub` halts, and which neither waits for an agent nor asks it anything."""
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(host, "need_kvm", lambda *_: Verdict(accelerator="kvm", reason="its guests only halt"))
        forget_the_agent(patches)
        async with FirecrackerEngine(settings) as engine:
            engine._opened = dataclasses.replace(engine.host, images=StubImages(settings.images_dir, HANG))
            yield engine
