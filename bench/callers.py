"""The daemon with many callers: its size, terminals, files larger than it. `python -m bench.callers [--json]`.

Machines are processes of the host, so that what is measured is the daemon's. All callers are one process, and on few
cores they wait for each other as much as for the daemon.
"""

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
from bench.measure import Row, report, row, size_row
from tests.daemons import Daemon, daemon

from bhatti.operations import table, types

SANDBOXES = 10
KNOWN = 200
TERMINALS = 500
ROUNDS = 4
IDLE = 2000
LARGE_BYTES = 2 << 30
PIECE = bytes(1 << 20)

IDLE_TARGET_MIB = 60 * IDLE / 1024
GROWTH_TARGET_MIB = 30.0
RSS_TARGET_MIB = 90.0
KNOWN_TARGET_MIB = 150.0


def rss_kib(served: Daemon) -> int:
    """Return what the daemon has in memory."""
    assert served.process is not None
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


@contextlib.asynccontextmanager
async def caller(served: Daemon) -> AsyncIterator[aiohttp.ClientSession]:
    """A client with as many connections as it likes."""
    connector = aiohttp.UnixConnector(served.endpoint.path, limit=0)
    never = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, base_url="http://b", timeout=never) as http:
        yield http


def make(served: Daemon, numbers: range) -> None:
    """Make sandboxes that are called by number."""
    with served.client() as client:
        for number in numbers:
            client.call(table.SANDBOX_CREATE, types.SandboxCreate(name=f"s{number}", memory_mb=128))


@contextlib.asynccontextmanager
async def terminals(http: aiohttp.ClientSession, count: int) -> AsyncIterator[list[aiohttp.ClientWebSocketResponse]]:
    """Terminals that echo, spread over the sandboxes."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for number in range(count):
            path = f"/sandboxes/s{number % SANDBOXES}/ws?cmd=cat"
            found.append(await stack.enter_async_context(http.ws_connect(path)))
            await found[-1].receive_str()  # what the session is called
        yield found


async def echo(socket: aiohttp.ClientWebSocketResponse, seconds: list[float]) -> None:
    """Type a line, and wait for the terminal's echo of it."""
    began = time.perf_counter()
    await socket.send_bytes(b"x\r")
    heard = b""
    while b"x" not in heard:
        heard += await socket.receive_bytes()
    seconds.append(time.perf_counter() - began)
    with contextlib.suppress(TimeoutError):  # what `cat` says to it belongs to this line and not to the next
        while heard.count(b"x") < 2:
            heard += await asyncio.wait_for(socket.receive_bytes(), 60)


async def idle_sockets(http: aiohttp.ClientSession, served: Daemon) -> Row:
    """What so many WebSockets take on which nothing is said: conversations that wait for their request."""
    before = rss_kib(served)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(IDLE):
            await stack.enter_async_context(http.ws_connect("/sandboxes/s0/exec/ws"))
        grown = rss_kib(served) - before
    return size_row(f"{IDLE} idle WebSockets", grown, target_mib=IDLE_TARGET_MIB)


async def large(http: aiohttp.ClientSession, served: Daemon, target: Path) -> list[Row]:
    """A file larger than the daemon, in and out."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(LARGE_BYTES // len(PIECE)):
            yield PIECE
            most.append(rss_kib(served))

    rows = []
    for direction in ("upload", "download"):
        before, began, most = rss_kib(served), time.perf_counter(), [0]
        if direction == "upload":
            async with http.put("/sandboxes/s0/files", params={"path": str(target)}, data=pieces()) as response:
                response.raise_for_status()
        else:
            async with http.get("/sandboxes/s0/files", params={"path": str(target)}) as response:
                async for _ in response.content.iter_chunked(len(PIECE)):
                    most.append(rss_kib(served))
        name = f"{direction} of {LARGE_BYTES >> 30} GiB"
        rows.append(row(name, [time.perf_counter() - began], amount=LARGE_BYTES / 2**20, rate_unit="MiB"))
        rows.append(size_row(f"{name}: the daemon grows by", max(most) - before, target_mib=GROWTH_TARGET_MIB))
    return rows


async def measured(served: Daemon) -> list[Row]:
    rows = [size_row("the daemon, idle", rss_kib(served), target_mib=RSS_TARGET_MIB)]
    make(served, range(SANDBOXES))
    async with caller(served) as http:
        rows.append(await idle_sockets(http, served))
        async with terminals(http, TERMINALS) as sockets:
            seconds: list[float] = []
            for _ in range(ROUNDS):
                async with asyncio.TaskGroup() as tasks:
                    for socket in sockets:
                        tasks.create_task(echo(socket, seconds))
            rows.append(row(f"echo in {TERMINALS} terminals at once", seconds))
            lone: list[float] = []
            for socket in sockets:
                await echo(socket, lone)
            rows.append(row(f"echo in one of {TERMINALS} terminals", lone))
        rows += await large(http, served, served.directory / "large")
    make(served, range(SANDBOXES, KNOWN))
    return [*rows, size_row(f"the daemon, {KNOWN} sandboxes", rss_kib(served), target_mib=KNOWN_TARGET_MIB)]


@contextlib.contextmanager
def many_files() -> Iterator[None]:
    """As many descriptors as there may be."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def rows() -> list[Row]:
    """Measure all of it: some minutes, and 2 GiB of disk."""
    with many_files(), daemon(BHATTI_THERMAL_WARM_AFTER_S="0") as served:
        return asyncio.run(measured(served))


if __name__ == "__main__":
    report("The daemon with many callers", rows())
