"""What idleness is judged by: who is attached, what runs, what it uses, and how the machine is.

Everything but our own counts comes from /proc; elsewhere than on Linux it is left at zero.
"""

from __future__ import annotations

import os
import time

from lohar.processes import processes
from lohar.wire.messages import Facts, ProcessFact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from lohar.child import Child

MAX_PROCESSES = 1000
"""Running commands that are listed: they fit into a frame with room to spare."""


def running_commands(children: Iterable[Child]) -> tuple[ProcessFact, ...]:
    """Describe the commands that run, each with the CPU time of all that it has started.

    A control group knows that time exactly; without one it is the time of the command's session, and of those of its
    processes that were waited for.
    """
    children = list(children)[:MAX_PROCESSES]
    used: dict[int, int] = {}
    if any(child.group is None for child in children):
        for stat in processes():
            used[stat.session] = used.get(stat.session, 0) + stat.cpu_ms
    return tuple(
        ProcessFact(
            pid=child.pid,
            name=os.path.basename(child.argv[0]),
            cpu_ms=used.get(child.pid, 0) if child.group is None else child.group.cpu_ms(),
            session_id=child.session_id,
        )
        for child in children
    )


def machine_facts() -> Facts:
    """Return what describes the machine as a whole; the rest is left at its defaults."""
    memory = read_table("/proc/meminfo")
    disk = os.statvfs("/")
    return Facts(
        cpu_ms=cpu_ms(),
        load=tuple(round(value, 2) for value in os.getloadavg()),
        memory_total=memory.get("MemTotal:", 0) * 1024,
        memory_available=memory.get("MemAvailable:", 0) * 1024,
        disk_total=disk.f_blocks * disk.f_frsize,
        disk_free=disk.f_bavail * disk.f_frsize,
        oom_kills=read_table("/proc/vmstat").get("oom_kill", 0),
        uptime_ms=time.monotonic_ns() // 1_000_000,
    )


def cpu_ms() -> int:
    """Return the CPU time of all processes since boot, without waiting and idling (proc(5), /proc/stat)."""
    for line in _lines("/proc/stat"):
        fields = line.split()
        if fields and fields[0] == "cpu":
            user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[1:8])
            return (user + nice + system + irq + softirq) * 1000 // os.sysconf("SC_CLK_TCK")
    return 0


def read_table(path: str) -> dict[str, int]:
    """Return the lines `name number` of a file in /proc; none if there is no such file."""
    result = {}
    for line in _lines(path):
        fields = line.split()
        if len(fields) >= 2 and fields[1].isdigit():
            result[fields[0]] = int(fields[1])
    return result


def boot_id() -> str:
    """Return the kernel's boot id, which stays the same over a snapshot; empty where there is none."""
    lines = _lines("/proc/sys/kernel/random/boot_id")
    return lines[0] if lines else ""


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []
