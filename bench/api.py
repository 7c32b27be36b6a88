"""Single calls through the whole API, over one kept-open connection. `python -m bench.api [--json]`.

The machine is a process of the host, so that what is added to its agent's own time is the daemon's.
"""

import asyncio
import contextlib
import dataclasses
import os
import socket
from pathlib import Path

from bench.agent_process import RawClient
from bench.client import EXEC
from bench.measure import Case, Row, report, row, spawn, take_turns
from tests.daemons import Daemon, daemon

from lohar.wire.frames import FrameType, encode
from lohar.wire.messages import FileReadRequest

ROUNDS = 30
BLOCK = 20
EXEC_TARGET = 2.0
"""Of a bare spawn."""

LOOK_US = 1000.0
ADDED_US = 1000.0
"""What reading a small file may take beyond what the agent takes."""


class PlainCaller:
    """The plainest client of the API there is: blocking, one connection, no more parsed than where an answer ends."""

    def __init__(self, served: Daemon) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(served.endpoint.path)

    def ask(self, request: bytes) -> bytes:
        """Send a whole request; return the answer, which must be one of success and have a length."""
        self._socket.sendall(request)
        head, _, body = self._socket.recv(65536).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 2"), head + body
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
        while len(body) < size:
            body += self._socket.recv(65536)
        return body

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def get(path: str) -> bytes:
    """Return a request for what is at `path`."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    """Return a request that sends JSON to `path`."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def rows() -> list[Row]:
    """Measure everything in one run."""
    with daemon(BHATTI_THERMAL_WARM_AFTER_S="0") as served, contextlib.ExitStack() as stack:
        served.out("create", "one")
        (machine,) = served.machines()
        caller, agent = PlainCaller(served), RawClient(Path(served.directory, "m", machine, "c"))
        stack.callback(caller.close)
        stack.callback(agent.close)
        agent.hello()
        small = served.directory / "small"
        small.write_bytes(os.urandom(1024))
        read = encode(FrameType.FILE_READ_REQ, FileReadRequest(path=str(small)).to_json())
        cases: dict[str, Case] = {
            "spawn true": spawn,
            "agent: exec true": lambda: agent.request(EXEC, FrameType.EXIT),
            "API: exec true": lambda: caller.ask(post("/sandboxes/one/exec", b'{"cmd":["true"]}')),
            "agent: read 1 KiB": lambda: agent.request(read, FrameType.EXIT),
            "API: read 1 KiB": lambda: caller.ask(get(f"/sandboxes/one/files?path={small}")),
            "API: health": lambda: caller.ask(get("/health")),
            "API: a sandbox": lambda: caller.ask(get("/sandboxes/one")),
            "API: templates": lambda: caller.ask(get("/templates")),
        }
        return _rows(asyncio.run(take_turns(cases, ROUNDS, block=BLOCK)))


def _rows(seconds: dict[str, list[float]]) -> list[Row]:
    floor, own = (row(name, seconds[name]) for name in ("spawn true", "agent: read 1 KiB"))
    result = [floor]
    for name, times in seconds.items():
        if name.endswith("exec true"):
            target = EXEC_TARGET if name.startswith("API") else None
            result.append(row(name, times, floor=floor, target=target))
        elif name == own.name:
            result.append(own)
        elif name != floor.name:
            limit = ADDED_US + own.p50_us if "read" in name else LOOK_US
            result.append(dataclasses.replace(row(name, times), limit_us=limit))
    return result


if __name__ == "__main__":
    report("Single calls through the API", rows())
