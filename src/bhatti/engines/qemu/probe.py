"""Whether a saved state can be loaded, found out by loading it: into a process that is ended before it runs.

Nothing changes by it. Memory is mapped privately, and a machine whose processors never run writes to no disk.
"""

import dataclasses
from pathlib import Path

import anyio

from bhatti.engines.qemu import command, console, migration
from bhatti.engines.qemu.files import MachineFiles
from bhatti.engines.qemu.process import VmProcess
from bhatti.engines.qemu.qmp import Monitor, listen
from bhatti.errors import BhattiError

CONNECT_TIMEOUT_S = 20.0


async def probe_state(hardware: command.Hardware, files: MachineFiles, *, with_memory: bool) -> str | None:
    """Load the state of the stopped machine with these `files`; return what went wrong, or None.

    `hardware` is the machine that waits for the state. Safe to cancel: the process ends.
    """
    socket, log, memory = (files.directory / f"probe.{kind}" for kind in ("sock", "log", "ram"))
    throw_away = dataclasses.replace(
        hardware,
        name=f"{hardware.name}-probe",
        console=files.directory / "probe.console",
        memory_file=memory if with_memory else hardware.memory_file,
        private=True,
    )
    try:
        listener = await anyio.to_thread.run_sync(listen, socket)
        with listener:
            process = await VmProcess.spawn(
                command.command_line(throw_away), log=log, inherit={command.MONITOR_FILE: listener.fileno()}
            )
        try:
            async with await Monitor.connect(socket, timeout_s=CONNECT_TIMEOUT_S) as monitor:
                await migration.load_state(monitor, files.state, with_memory=with_memory)
            return None
        except BhattiError as error:
            return f"it cannot be loaded: {error.message}{await anyio.to_thread.run_sync(_words, log)}"
        finally:
            await process.end()
    finally:
        with anyio.CancelScope(shield=True):
            for path in (socket, log, memory, throw_away.console):
                await anyio.Path(path).unlink(missing_ok=True)


def _words(log: Path) -> str:
    """Return what QEMU said last, as the end of a message."""
    lines = console.tail(log, 1000).strip().splitlines()
    return f" ({lines[-1]})" if lines else ""
