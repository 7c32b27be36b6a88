"""Taking over what an earlier engine has left, one machine as good as it goes, whatever is wrong with another."""

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import anyio

from bhatti.engines.qemu.host import QemuHost
from bhatti.engines.qemu.machine import QemuMachine
from bhatti.engines.qemu.process import ProcessIdentity, VmProcess
from bhatti.engines.qemu.record import Phase, read_record, wreck
from bhatti.engines.told import told
from bhatti.errors import CorruptData

log = logging.getLogger(__name__)

M = TypeVar("M", bound=QemuMachine)


async def adopt_machine(kind: type[M], host: QemuHost, directory: Path) -> M | None:
    """Return the machine in `directory`, taken hold of; None if it was half made or half removed, and is gone now.

    What cannot be done about it (its disk is full, its process does not die) is told, and it is returned as it is: a
    daemon that does not start for its sake could not be asked to remove it either.
    """
    try:
        record = await anyio.to_thread.run_sync(read_record, directory)
    except CorruptData as error:
        log.error("sandbox %s: %s", directory.name, error.message)
        record = wreck(directory.name, error.message)
    # Without a record, nothing was begun but the directory.
    machine = kind(host, record or wreck(directory.name, "it never came to be"), exists=True)
    if record is None or record.phase in (Phase.CREATING, Phase.DESTROYING):
        log.warning("sandbox %s was left %s: removed", directory.name, record.phase if record else "empty")
        with told(log, f"sandbox {directory.name} could not be removed"):
            await machine.remove()
        return machine if machine.exists else None
    with told(log, f"sandbox {machine.spec.id}: half a copy could not be removed"):
        await anyio.to_thread.run_sync(machine.sweep_copies)
    with told(log, f"sandbox {machine.spec.id} could not be taken over whole"):
        await machine.adopt()
    return machine


async def end_strays(find: Callable[[], Sequence[ProcessIdentity]], known: Collection[int]) -> None:
    """End the machines among the processes that `find` returns, but for those whose pids are `known`."""
    for identity in await anyio.to_thread.run_sync(find):
        if identity.pid not in known:
            stray = await VmProcess.adopt(identity)
            if stray is not None:
                log.warning("ended process %d, a machine that nobody knows", identity.pid)
                with told(log, f"process {identity.pid} could not be ended"):
                    await stray.end()
