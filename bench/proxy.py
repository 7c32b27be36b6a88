"""A web server in a sandbox, asked directly and in every way that leads there. `python -m bench.proxy [--json]`.

Machines are processes of the host, so that all that lies between is ours: the daemon and the agent. Client, daemon,
agent and server are a process each; with fewer cores than that they also wait for each other.
"""

import asyncio
import contextlib
import dataclasses
import os
import socket
import threading
from collections.abc import Callable, Iterator

from bench.measure import Case, Row, report, row, take_turns
from tests.daemons import Daemon, daemon

from bhatti.operations import table, types
from bhatti.sdk.forwarding import Forward

ROUNDS = 7
LATENCY_ROUNDS = 30
BLOCK = 10
BULK_BYTES = 100 << 20
PIECE = 256 << 10

ADDED_MS = 1.0
"""What a way may add to the time of a small answer, by medians."""

SHARE = 0.5
"""Of the direct throughput that a way should have."""

Connect = Callable[[], socket.socket]


@contextlib.contextmanager
def web_server() -> Iterator[int]:
    """A process that answers `/small` with a byte and anything else with 100 MiB; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    child = os.fork()
    if child == 0:
        piece = memoryview(bytes(PIECE))
        while True:
            caller, _ = listener.accept()
            threading.Thread(target=_serve, args=(caller, piece), daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        os.kill(child, 9)
        os.waitpid(child, 0)


def _serve(caller: socket.socket, piece: memoryview) -> None:
    with caller:
        head = b""
        while b"\r\n\r\n" not in head:
            head += caller.recv(PIECE)
        size = 1 if b"small" in head.split(b"\r\n", 1)[0] else BULK_BYTES
        caller.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(max(1, size // PIECE)):
            caller.sendall(piece[:size])


def ask(connect: Connect, path: str, buffer: memoryview) -> int:
    """Send a request on a connection of its own, and return how many bytes came back."""
    received = 0
    with connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        while count := connection.recv_into(buffer):
            received += count
    return received


def ways(served: Daemon, port: int, forward: Forward) -> dict[str, tuple[Connect, str]]:
    """Return every way to the server: how to connect, and what its paths begin with."""

    def to_daemon() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(served.endpoint.path)
        return connection

    with served.client() as client:
        url = client.call(table.PUBLISH, types.PublishRequest(port=port), id="one").url or ""
    gateway = int(url.split("/")[2].rpartition(":")[2])
    return {
        "direct": (lambda: socket.create_connection(("127.0.0.1", port)), ""),
        "API proxy": (to_daemon, f"/sandboxes/one/proxy/{port}"),
        "published": (lambda: socket.create_connection(("127.0.0.1", gateway)), "/p/one"),
        "bhatti forward": (lambda: socket.create_connection(forward.address), ""),
    }


def rows() -> list[Row]:
    """Measure everything in one run."""
    buffer = memoryview(bytearray(PIECE))
    with web_server() as port, daemon(BHATTI_GATEWAY_LISTEN="127.0.0.1:0") as served:
        served.out("create", "one")
        with Forward(served.endpoint, "one", port) as forward:
            found = ways(served, port, forward)

            def cases(path: str) -> dict[str, Case]:
                return {name: (lambda c=c, p=p: ask(c, p + path, buffer)) for name, (c, p) in found.items()}  # type: ignore[misc]

            small = asyncio.run(take_turns(cases("/small"), LATENCY_ROUNDS, block=BLOCK))
            large = asyncio.run(take_turns(cases("/large"), ROUNDS, warm_up=1))
    return [*_latencies(small), *_throughputs(large)]


def _latencies(seconds: dict[str, list[float]]) -> list[Row]:
    direct = row("one byte, direct", seconds.pop("direct"))
    limit = direct.p50_us + ADDED_MS * 1000
    return [direct] + [
        dataclasses.replace(row(f"one byte, {name}", times), limit_us=limit) for name, times in seconds.items()
    ]


def _throughputs(seconds: dict[str, list[float]]) -> list[Row]:
    amount = BULK_BYTES / 1e6
    direct = row("100 MiB, direct", seconds.pop("direct"), amount=amount, rate_unit="MB")
    return [direct] + [
        row(f"100 MiB, {name}", times, floor=direct, target=SHARE, amount=amount, rate_unit="MB")
        for name, times in seconds.items()
    ]


if __name__ == "__main__":
    report("Ways to a server in a sandbox", rows())
