"""The agent's own size and speed of start, and its ring buffer. `python -m bench.agent [--json]`.

Memory is what the kernel calls resident, pages shared with other Python processes included: the most that the agent can
be said to use.
"""

import asyncio
import functools
import json
import os
from pathlib import Path

from bench.agent_process import AgentProcess, RawClient, agent
from bench.measure import Case, Row, report, row, size_row, take_turns

from lohar.ring import Ring
from lohar.wire.frames import FrameType, encode
from lohar.wire.messages import ExecRequest

STARTS = 20
START_LIMIT_US = 150_000
IDLE_MIB = 14
SESSIONS = 50
SESSIONS_MIB = 25
REQUESTS = 10_000
"""The figures asked for: at most 150 ms from process start to accepting, 14 MB resident idle, 25 MB with fifty sessions
and full scrollbacks, and flat over ten thousand requests."""

RING_SIZES = (64, 4 << 10, 32 << 10)
RING_ROUNDS = 2000


def resident_kib(pid: int) -> int:
    """Return the resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError(f"no VmRSS of {pid}")


def start_rows() -> list[Row]:
    """Measure from the start of the process to its control socket, which appears when it listens."""
    times, sizes = [], []
    for _ in range(STARTS):
        with agent() as process:
            times.append(process.started_in_s)
            sizes.append(resident_kib(process.pid))
    start = row("start to accepting", times)
    return [
        Row(start.name, start.count, start.p50_us, start.p95_us, start.p99_us, limit_us=START_LIMIT_US),
        size_row("memory, idle", sorted(sizes)[len(sizes) // 2], target_mib=IDLE_MIB),
    ]


def memory_rows() -> list[Row]:
    """Measure what sessions cost, and that requests cost nothing that stays."""
    with agent() as process:
        clients = [_full_session(process) for _ in range(SESSIONS)]
        full = resident_kib(process.pid)
        for client in clients:
            client.close()
    with agent() as process:
        _ask(process, REQUESTS // 10)  # what is loaded and grown at first use
        before = resident_kib(process.pid)
        _ask(process, REQUESTS)
        after = resident_kib(process.pid)
    return [
        size_row(f"memory, {SESSIONS} sessions with full scrollbacks", full, target_mib=SESSIONS_MIB),
        size_row("memory, after 1,000 requests", before),
        size_row("memory, after 10,000 more", after, target_mib=round(before / 1024 + 0.5, 2)),
    ]


def _full_session(process: AgentProcess) -> RawClient:
    """Open a session that has filled its scrollback, and has been read."""
    client = RawClient(process.control)
    script = "stty -opost; head -c 100000 /dev/zero; exec sleep 1000"
    request = ExecRequest(argv=("sh", "-c", script), tty=True)
    frames = client.request(encode(FrameType.EXEC_REQ, request.to_json()), FrameType.SESSION_INFO)
    seen = sum(len(payload) for kind, payload in frames if kind == FrameType.STDOUT)
    while seen < 100_000:
        seen += sum(len(payload) for kind, payload in client.request(b"", FrameType.STDOUT) if kind == FrameType.STDOUT)
    return client


def _ask(process: AgentProcess, count: int) -> None:
    """Make requests of the common kinds, one in ten a command."""
    client = RawClient(process.control)
    client.hello()
    path = json.dumps({"path": "/etc/passwd"}).encode()
    exec_ = encode(FrameType.EXEC_REQ, ExecRequest(argv=("true",), timeout_sec=3600).to_json())
    for number in range(count):
        if number % 10 == 0:
            client.request(exec_, FrameType.EXIT)
        elif number % 2:
            client.request(encode(FrameType.FILE_READ_REQ, path), FrameType.EXIT)
        else:
            client.request(encode(FrameType.FILE_STAT_REQ, path), FrameType.FILE_STAT_RESP)
    client.close()


async def ring_rows() -> list[Row]:
    """Measure writes to a ring that is full, and reading all of it."""
    rings = {size: Ring(64 << 10) for size in RING_SIZES}
    pieces = {size: os.urandom(size) for size in RING_SIZES}
    full = Ring(64 << 10)
    full.write(bytes(100_000))
    cases: dict[str, Case] = {
        f"ring: write {size:,} B": functools.partial(rings[size].write, pieces[size]) for size in RING_SIZES
    }
    cases["ring: read all 64 KiB"] = lambda: full.read(full.start, full.capacity)
    return [row(name, times) for name, times in (await take_turns(cases, RING_ROUNDS, block=10)).items()]


def rows() -> list[Row]:
    """Measure everything."""
    return start_rows() + memory_rows() + asyncio.run(ring_rows())


if __name__ == "__main__":
    report("The agent's own size", rows())
