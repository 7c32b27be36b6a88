"""Golden snapshots: one machine for each image and shape that booted once, so that others need not.

A golden machine knows nothing worth keeping: its token, name and address are placeholders, nobody's environment and
files are in it. It is booted in quarantine, made a mold, and ended.
"""

import asyncio
import hashlib
import logging
import secrets
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import msgspec

from bhatti.engines.qemu import snapshot
from bhatti.engines.qemu.command import VOLUME_SLOTS
from bhatti.engines.qemu.files import MachineFiles, remove_files
from bhatti.engines.qemu.host import QemuHost
from bhatti.engines.qemu.mold import Mold, new_directory, read_mold, read_whole_mold
from bhatti.engines.qemu.record import read_record
from bhatti.errors import BhattiError, CorruptData
from bhatti.model.sandbox import SandboxSpec

log = logging.getLogger(__name__)

KEY_DIGITS = 20

Make = Callable[[SandboxSpec, MachineFiles], Awaitable[None]]
"""Boots a golden machine, casts it into the files, and ends it."""


class GoldenSnapshots:
    """The molds below `<state>/golden`, one directory for each key."""

    def __init__(self, host: QemuHost, make: Make) -> None:
        self._host = host
        self._make = make
        self._directory = host.settings.golden_dir
        self._locks: dict[str, anyio.Lock] = {}
        self._making: dict[tuple[object, ...], asyncio.Task[None]] = {}
        self._checked: set[str] = set()

    def find(self, spec: SandboxSpec) -> Mold | str:
        """Return the mold for sandboxes like `spec`, or why there is none. Blocks; raises like `boot_files`."""
        return self._read(self._directory / self.key(spec))

    def _read(self, directory: Path) -> Mold | str:
        """Return the mold in `directory`, its memory checked once in the life of an engine: it takes 0.1 s."""
        read = read_mold if directory.name in self._checked else read_whole_mold
        found = read(self._host, directory)
        if isinstance(found, Mold):
            self._checked.add(directory.name)
        return found

    def key(self, spec: SandboxSpec) -> str:
        """Return what is equal for all sandboxes that can be made from the same mold. Blocks."""
        boot = self._host.images.boot_files(spec.image)
        shape = {
            "files": boot.digests,
            "network": self._host.networks.new,
            "maker": msgspec.to_builtins(snapshot.maker_of(self._host)),
            "format": snapshot.FORMAT,
            "slots": VOLUME_SLOTS,
            "cpus": spec.cpus,
            "memory_mib": spec.memory_mib,
            "disk_mib": spec.disk_mib,
            "devices": self._host.devices,
        }
        return hashlib.sha256(msgspec.json.encode(shape, order="sorted")).hexdigest()[:KEY_DIGITS]

    def sweep(self) -> None:
        """Remove what an earlier engine did not finish. Blocks."""
        if self._directory.exists():
            for directory in self._directory.iterdir():
                if not (directory / snapshot.MANIFEST_FILE).exists():
                    shutil.rmtree(directory)

    def release(self) -> None:
        """Remove what nobody can be made from any more: molds of images that are gone or replaced. Blocks."""
        if not self._directory.exists():
            return
        for directory in self._directory.iterdir():
            try:
                record = read_record(directory)
            except CorruptData:
                record = None
            if record is None:
                continue  # being made, or to be swept at the next start
            try:
                current = self.key(record.spec)
            except BhattiError:  # there is no such image any more
                current = ""
            if directory.name != current:
                log.info("removed the golden snapshot %s, of an image that is gone", directory.name)
                shutil.rmtree(directory)

    def ensure_soon(self, spec: SandboxSpec, then: Callable[[Mold], None]) -> None:
        """Begin to make the mold for sandboxes like `spec`, unless that is under way. Failures are logged.

        `then` is called with the mold when it is there.
        """
        shape = _outline(spec)
        if shape not in self._making:
            making = asyncio.get_running_loop().create_task(self._ensure_quietly(spec, then))
            self._making[shape] = making
            making.add_done_callback(lambda task: self._making.pop(shape))

    async def aclose(self) -> None:
        """Give up what is being made; nothing of it is left."""
        making = list(self._making.values())
        for task in making:
            task.cancel()
        # Cancelled is how they end, and they have cleaned up behind them.
        await asyncio.gather(*making, return_exceptions=True)

    async def _ensure_quietly(self, spec: SandboxSpec, then: Callable[[Mold], None]) -> None:
        try:
            then(await self.ensure(spec))
        except (BhattiError, OSError) as error:
            log.warning("no golden snapshot for %s: %s", _shape(spec), error)

    async def ensure(self, spec: SandboxSpec) -> Mold:
        """Return the mold for sandboxes like `spec`, made now if there is none. One is made only once at a time.

        Raises `BhattiError` like `Engine.create`. Safe to cancel: nothing of it is left.
        """
        key = await anyio.to_thread.run_sync(self.key, spec)
        directory = self._directory / key
        async with self._locks.setdefault(key, anyio.Lock()):
            found = await anyio.to_thread.run_sync(self._read, directory)
            if isinstance(found, Mold):
                return found
            log.info("making a golden snapshot for %s: %s", _shape(spec), found)
            await anyio.to_thread.run_sync(new_directory, directory)
            try:
                await self._make(golden_spec(spec, key), MachineFiles(directory))
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(remove_files, directory)
                raise
            log.info("the golden snapshot %s is ready", key)
            found = await anyio.to_thread.run_sync(self._read, directory)
            if isinstance(found, str):
                raise CorruptData(f"the golden snapshot for {_shape(spec)} came out wrong: {found}")
            await anyio.to_thread.run_sync(self._remove_outdated, found)
            return found

    def _remove_outdated(self, current: Mold) -> None:
        """Remove what `current` takes the place of: molds of the same image and shape with an older agent, say."""
        for directory in self._directory.iterdir():
            if directory == current.files.directory:
                continue
            try:
                record = read_record(directory)
            except CorruptData:
                record = None
            if record is None or _outline(record.spec) == _outline(current.record.spec):
                # One that is being made has no record yet, but its key's lock is held.
                lock = self._locks.get(directory.name)
                if lock is None or not lock.locked():
                    shutil.rmtree(directory)


def golden_spec(spec: SandboxSpec, key: str) -> SandboxSpec:
    """Return the sandbox that has the shape of `spec` and nothing else of it."""
    return SandboxSpec(
        id=f".golden-{key}",
        name="golden",
        image=spec.image,
        cpus=spec.cpus,
        memory_mib=spec.memory_mib,
        disk_mib=spec.disk_mib,
        token=secrets.token_hex(32),
    )


def _outline(spec: SandboxSpec) -> tuple[object, ...]:
    return (spec.image, spec.cpus, spec.memory_mib, spec.disk_mib)


def _shape(spec: SandboxSpec) -> str:
    return f"{spec.image}, {spec.cpus} CPUs, {spec.memory_mib} MiB, disk {spec.disk_mib} MiB"
