"""What a machine died of, from everything that is left of it."""

import os
import re
import signal
from pathlib import Path

from bhatti.engines.base import CauseOfDeath
from bhatti.engines.qemu import console
from bhatti.engines.qemu.process import Exit

TAIL_BYTES = 4096
"""What a cause of death holds of the console."""

KMSG = Path("/dev/kmsg")

_LAST_WORDS = re.compile(r"reboot: (?:Power down|System halted|Power off not available)[^\r\n]*\s*\Z")

_FAREWELL = "Firecracker exiting"
"""How the last line begins that Firecracker writes whatever it ends of: the one before it says why."""


def switched_off(tail: str) -> bool:
    """Return whether a guest with this end of its console has switched itself off: it says nothing after that."""
    return _LAST_WORDS.search(tail) is not None


def cause_of_death(
    pid: int, ended: Exit, console_log: Path, program_log: Path, *, program: str = "qemu"
) -> CauseOfDeath:
    """Return why the process `pid` of a machine ended that nobody told to. Blocks: it reads logs."""
    tail = console.tail(console_log, TAIL_BYTES)
    words = console.tail(program_log, TAIL_BYTES)

    def cause(kind: str, detail: str) -> CauseOfDeath:
        return CauseOfDeath(kind=kind, detail=detail, console_tail=tail)

    if (panic := re.search(r"Kernel panic - not syncing: ?([^\r\n]*)", tail)) is not None:
        return cause("guest-panic", f"the guest's kernel panicked: {panic[1]}")
    # Before signals: where a guest that is off keeps its process, it is we who end that.
    if switched_off(tail):
        return cause("exit", "the guest powered itself off")
    if ended.signal in (None, signal.SIGKILL) and (victim := _oom_record(pid)) is not None:
        return cause("oom", f"the host ran out of memory and killed it: {victim}")
    if ended.signal == signal.SIGBUS:
        return cause("disk-full", "the host's disk could not hold the guest's memory any more (SIGBUS)")
    if (by := re.search(r"terminating on signal \d+ from pid \d+[^\r\n]*", words)) is not None:
        return cause("killed", f"qemu: {by[0]}")
    if ended.signal is not None:
        return cause("killed", f"{program} was {ended}")
    if "reboot: Restarting system" in tail or "reboot: machine restart" in tail:
        return cause("exit", "the guest rebooted, which ends a sandbox")
    said = [line for line in words.strip().splitlines() if _FAREWELL not in line]
    last = said[-1:] or ["it said nothing"]
    return cause("exit", f"{program} ended, {ended}: {last[0][:300]}")


def _oom_record(pid: int) -> str | None:
    """Return the kernel's note that it killed `pid` for lack of memory; None also where the log may not be read."""
    try:
        log = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    found = None
    wanted = re.compile(rf"Killed process {pid} \([^\n]*")
    try:
        while True:
            try:
                record = os.read(log, 8192).decode(errors="replace")
            except BrokenPipeError:
                continue  # Records were overwritten while we read; the next read goes on behind them.
            if (match := wanted.search(record)) is not None:
                found = match[0]
    except BlockingIOError:
        return found  # The end of the log.
    except OSError:
        return found
    finally:
        os.close(log)
