"""Guests of a few bytes of machine code: up in no time, without an agent."""

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.conformance.leftovers import traces_of

from bhatti.engines.qemu import probe_guest
from bhatti.engines.qemu.engine import QemuEngine
from bhatti.engines.qemu.machine import QemuMachine
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.images.store import BootFiles, ImageStore
from bhatti.model.sandbox import SandboxSpec

SPEC = SandboxSpec(id="s1", name="box", image="stub", cpus=1, memory_mib=128, disk_mib=64, token="secret")

HANG = bytes.fromhex("f4ebfd")
"""hlt, for ever."""

TRIPLE_FAULT = bytes.fromhex("0f011d00001000cc")
"""lidt of nonsense, int3: the processor resets, and QEMU ends (-no-reboot)."""

SPEAK_AND_FAULT = b"\xba\xf8\x03\x00\x00" + b"".join(b"\xb0%c\xee" % char for char in b"oops\n") + TRIPLE_FAULT
"""Write a line to the serial port first."""


def stub_guest(directory: Path, code: bytes) -> BootFiles:
    """Return boot files whose kernel is `code`, entered in 32-bit mode; there is no agent in it."""
    for name in ("initramfs", "agent", "base"):
        (directory / name).write_bytes(bytes(4096))
    (directory / "kernel").write_bytes(probe_guest.elf(code))
    return BootFiles(
        kernel=directory / "kernel",
        initramfs=directory / "initramfs",
        agent=directory / "agent",
        base=directory / "base",
        digests={},
        image="stub",
    )


class StubImages(ImageStore):
    """Images for tests about the host's side of a machine: one guest, up in no time, by the name of `stub`."""

    def __init__(self, directory: Path, code: bytes) -> None:
        super().__init__(directory)
        self._files = stub_guest(directory, code)

    def boot_files(self, name: str) -> BootFiles:
        return self._files if name == "stub" else super().boot_files(name)


def forget_the_agent(patches: pytest.MonkeyPatch) -> None:
    """Let a machine count as running as soon as its process does, since its guest has no agent to be told or asked."""

    async def at_once(machine: QemuMachine) -> None:
        return None

    for question in ("_wait_for_agent", "_tell_resumed", "_tell_time", "_write_back"):
        patches.setattr(QemuMachine, question, at_once)


@asynccontextmanager
async def opened(settings: QemuSettings, guest: bytes = HANG) -> AsyncIterator[QemuEngine]:
    """Open an engine whose image `stub` is a few bytes of machine code."""
    async with QemuEngine(settings) as engine:
        engine._opened = dataclasses.replace(engine.host, images=StubImages(settings.images_dir, guest))
        yield engine


async def nothing_is_left(settings: QemuSettings) -> bool:
    found = await traces_of(settings)
    assert str(found) == "nothing"
    return True


def machine_count(engine: QemuEngine) -> int:
    return len(engine._machines)
