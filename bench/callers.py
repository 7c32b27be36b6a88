"""The daemon with many callers: its size, terminals, files larger than it. `python -m bench.callers [--json]`.

Machines are processes of the host, so that what is measured is the daemon's. All callers are one process; where it
matters, one that hardly does anything.
"""

import asyncio
import contextlib
import resource
import selectors
import socket
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
HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
LINE = b"\x82\x82\0\0\0\0x\r"
"""A masked binary frame (RFC 6455 section 5.2)."""

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


class Terminal:
    """A terminal that echoes, through the plainest WebSocket there is: on few cores, a caller that takes as long as the
    daemon would be half of what is measured."""

    def __init__(self, served: Daemon, sandbox: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(served.endpoint.path)
        head = f"GET /sandboxes/{sandbox}/ws?cmd=cat HTTP/1.1\r\nHost: b\r\n{HANDSHAKE}\r\n"
        self.socket.sendall(head.encode())
        heard = b""
        while b'"session"' not in heard:
            heard += self.socket.recv(65536)
        self.heard = 0

    def type(self) -> None:
        """Type a line."""
        self.heard = 0
        self.socket.send(LINE)

    def hear(self) -> int:
        """Read what has come; return how often the line has: once the terminal's echo, once what `cat` says to it."""
        self.heard += self.socket.recv(65536).count(b"x")
        return self.heard


@contextlib.contextmanager
def terminals(served: Daemon, count: int) -> Iterator[list[Terminal]]:
    """Terminals, spread over the sandboxes."""
    with contextlib.ExitStack() as stack:
        found = []
        for number in range(count):
            found.append(Terminal(served, f"s{number % SANDBOXES}"))
            stack.callback(found[-1].socket.close)
        yield found


def echoes(some: list[Terminal]) -> list[float]:
    """Type a line in all of them in the same moment; return after how many seconds each has echoed."""
    seconds = []
    with selectors.DefaultSelector() as selector:
        for one in some:
            selector.register(one.socket, selectors.EVENT_READ, one)
        began = time.perf_counter()
        for one in some:
            one.type()
        while selector.get_map():
            for key, _ in selector.select():
                before, now = key.data.heard, key.data.hear()
                if now and not before:
                    seconds.append(time.perf_counter() - began)
                if now >= 2:
                    selector.unregister(key.data.socket)
    return seconds


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


def typed(served: Daemon) -> list[Row]:
    """How long terminals take to echo, all at once and one after the other."""
    with terminals(served, TERMINALS) as some:
        echoes(some)
        together = [second for _ in range(ROUNDS) for second in echoes(some)]
        lone = [second for one in some for second in echoes([one])]
    return [
        row(f"echo in {TERMINALS} terminals at once", together),
        row(f"echo in one of {TERMINALS} terminals", lone),
    ]


async def measured(served: Daemon) -> list[Row]:
    rows = [size_row("the daemon, idle", rss_kib(served), target_mib=RSS_TARGET_MIB)]
    make(served, range(SANDBOXES))
    async with caller(served) as http:
        rows.append(await idle_sockets(http, served))
        rows += await asyncio.to_thread(typed, served)
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
