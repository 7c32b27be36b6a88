"""The engine with the real Firecracker, around guests that do nothing but halt.

Even a KVM runs them that can run no real guest, so what the host does is tested where no sandbox could be.
"""

import dataclasses
import struct
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
from bhatti.engines.qemu.probe_guest import LOAD_ADDRESS
from bhatti.errors import MissingDependency
from bhatti.net.abilities import bridge_ability

GAP = 3 << 30
"""Where Firecracker's machines have devices in the place of memory, up to 4 GiB; what would be there comes behind."""

PLACES = (0x5FF000, 0x600000, 0x9FF000)
"""Where `counting_guest` has mapped the last page below the gap, the first behind it, and the last of all."""


def counting_guest(memory_mib: int) -> bytes:
    """Return a guest that counts up, over and over, a number in each of three pages around the gap.

    Source: AMD64 Architecture Programmer's Manual, volume 2, section 14.6.1 (enabling long mode).
    """
    behind = (memory_mib << 20) - GAP
    large_pages = {0: 0, 2: GAP - (2 << 20), 3: 4 << 30, 4: (4 << 30) + behind - (2 << 20)}
    words = {0x200000: 0x201003, 0x201000: 0x202003}
    for index, address in large_pages.items():
        words[0x202000 + 8 * index] = (address & 0xFFFFFFFF) | 0x83
        words[0x202004 + 8 * index] = address >> 32
    setup = bytes.fromhex("fcbf0000200031c0b9000c0000f3ab")  # clear the page tables
    for address, word in words.items():
        setup += b"\xc7\x05" + struct.pack("<II", address, word)
    setup += bytes.fromhex("b8000020000f22d80f20e083c8200f22e0")  # cr3; PAE
    setup += bytes.fromhex("b9800000c00f320d000100000f300f20c00d010000800f22c0")  # long mode, paging
    table = LOAD_ADDRESS + len(setup) + 7 + 7
    setup += b"\x0f\x01\x15" + struct.pack("<I", table + 16) + b"\xea" + struct.pack("<IH", table + 22, 8)
    segments = struct.pack("<QQHI", 0, 0x00AF9A000000FFFF, 15, table)
    count = b"".join(b"\x48\xff\x04\x25" + struct.pack("<I", place) for place in PLACES) + b"\xfe\xc3"
    again = count + b"\x75" + struct.pack("<b", -(len(count) + 2))
    tell = bytes.fromhex("66baf803b078ee")  # every 256 times, a letter on the console
    return setup + segments + again + tell + b"\xeb" + struct.pack("<b", -(len(again) + len(tell) + 2))


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
async def opened(settings: FirecrackerSettings, guest: bytes = HANG) -> AsyncIterator[FirecrackerEngine]:
    """Open an engine whose image `stub` is `guest`, and which neither waits for an agent nor asks it anything.

    It takes its machines along.
    """
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(host, "need_kvm", lambda *_: Verdict(accelerator="kvm", reason="its guests only halt"))
        forget_the_agent(patches)
        async with FirecrackerEngine(settings) as engine:
            engine._opened = dataclasses.replace(engine.host, images=StubImages(settings.images_dir, guest))
            try:
                yield engine
            finally:
                for found in await engine.list():
                    await engine.destroy(found.id)
