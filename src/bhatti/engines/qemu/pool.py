"""Forks made before anybody asks: a sandbox of the usual shape is then a matter of telling one who it is.

Theory of operation. A ready fork has woken up, has an address of its own, and has done once all that its first caller
will want; then it was halted, in quarantine, a machine that nobody knows. Whoever creates a sandbox of its shape takes
it and gives it the rest of an identity. The pool is kept for the shape that was asked for last, and for who asked,
since a ready fork has an address on the bridge of its owner. Its machines count as being created: an engine that finds
one in the place of an earlier engine removes it.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import msgspec

from bhatti.engines.qemu.host import QemuHost
from bhatti.engines.qemu.machine import QemuMachine
from bhatti.engines.qemu.mold import Mold
from bhatti.errors import BhattiError, LimitExceeded
from bhatti.model.sandbox import SandboxSpec

log = logging.getLogger(__name__)

SPARE = 4
"""How many times its memory must be free before a fork is made that nobody has asked for: sandboxes come first."""

MEMINFO = Path("/proc/meminfo")


class ReadyForks:
    """Up to `size` ready forks of one mold for one owner, made one at a time while nobody creates anything."""

    def __init__(self, host: QemuHost, size: int, machine: type[QemuMachine] = QemuMachine) -> None:
        self._host = host
        self._machine = machine
        self._size = size
        self._wanted: tuple[Mold, str] | None = None
        self._ready: list[tuple[str, QemuMachine]] = []
        self._busy = 0
        self._quiet = anyio.Event()
        self._filling: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """How many are ready."""
        return sum(machine.waits for _, machine in self._ready)

    @property
    def memory_mib(self) -> int:
        """How much memory those have that are ready."""
        return sum(machine.spec.memory_mib for _, machine in self._ready if machine.waits)

    @property
    def gives_way(self) -> bool:
        """Whether somebody waits for a sandbox."""
        return self._busy > 0

    def take(self, mold: Mold, spec: SandboxSpec) -> QemuMachine | None:
        """Return a ready fork of that mold for `spec`, the caller's from now on; None if there is none.

        There is none for a sandbox with volumes: one that is ready is a process already, and its slots stay empty.
        """
        if spec.volumes:
            return None
        for ready in self._ready:
            if ready[0] == _key(mold, spec.owner) and ready[1].waits:
                self._ready.remove(ready)
                return ready[1]
        return None

    def want(self, mold: Mold, owner: str) -> None:
        """Keep the pool for that mold and owner, and fill it up in background."""
        if self._size:
            self._wanted = mold, owner
            if self._filling is None:
                self._filling = asyncio.get_running_loop().create_task(self._fill())

    async def forsake(self, owner: str) -> None:
        """Keep nothing ready for an owner who has no sandbox left: their bridge is to go. Not for the administrator."""
        if owner and self._wanted is not None and self._wanted[1] == owner:
            await self.aclose()
            self._wanted = None

    @contextmanager
    def giving_way(self) -> Iterator[None]:
        """Begin no ready fork for the block: somebody waits for a sandbox."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._quiet.set()
                self._quiet = anyio.Event()

    async def filled(self) -> None:
        """Wait until nothing is being made any more."""
        if self._filling is not None:
            await asyncio.wait([self._filling])

    async def aclose(self) -> None:
        """Remove all of them, and what is being made. Idempotent."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)
        while self._ready:
            await self._ready.pop()[1].remove()

    async def _fill(self) -> None:
        try:
            while (wanted := self._wanted) is not None:
                while self._busy:
                    await self._quiet.wait()
                await self._drop_useless(_key(*wanted))
                if len(self._ready) >= self._size:
                    return
                self._ready.append((_key(*wanted), await self._make(*wanted)))
        except (BhattiError, OSError) as error:
            # Tried again at the next creation, which does without.
            log.warning("no fork could be made ready: %s", error)
        finally:
            self._filling = None

    async def _drop_useless(self, key: str) -> None:
        for ready in [one for one in self._ready if one[0] != key or not one[1].waits]:
            self._ready.remove(ready)
            await ready[1].remove()

    async def _make(self, mold: Mold, owner: str) -> QemuMachine:
        await anyio.to_thread.run_sync(_check_memory, mold.record.spec.memory_mib)
        machine = self._machine.new(self._host, ready_spec(mold, owner))
        try:
            await machine.wake_ready(mold)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await machine.remove()
            raise
        return machine


def ready_spec(mold: Mold, owner: str) -> SandboxSpec:
    """Return who a fork of `mold` is until somebody takes it."""
    name = f"ready-{secrets.token_hex(8)}"
    return msgspec.structs.replace(mold.record.spec, id=name, name="ready", token=secrets.token_hex(16), owner=owner)


def _key(mold: Mold, owner: str) -> str:
    return f"{mold.files.directory.name} {owner}"


def _check_memory(memory_mib: int) -> None:
    """Raise `LimitExceeded` unless there is memory to spare. Blocks for a moment."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", MEMINFO.read_text(), re.MULTILINE)
    free_mib = int(found[1]) >> 10 if found else 0
    if free_mib < SPARE * memory_mib:
        raise LimitExceeded(
            f"{free_mib} MiB of memory are free, a fork of {memory_mib} MiB is made ready from {SPARE * memory_mib} on",
            hint="stop sandboxes, or set qemu.ready_pool lower",
            code="no-memory-to-spare",
        )
