"""An agent in test mode, asked over unix sockets. `python -m bench.client [--json]`.

Rows named "agent" use a blocking client of a few lines, so that what is measured is the agent; rows named "link" use
`bhatti.guestlink` with all it does for its callers.
"""

import asyncio
import os
import socket
from pathlib import Path

from bench.agent_process import AgentProcess, RawClient, agent, once
from bench.measure import Case, Row, report, row, spawn, spawn_many, take_turns
from bench.smallest import smallest_agent

from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.transports import UnixTransport
from lohar.wire.frames import FrameType, encode
from lohar.wire.messages import ExecRequest, FileReadRequest, FileStatRequest, FileWriteRequest

ROUNDS = 20
BLOCK = 20
BULK_ROUNDS = 7
STARTS = 10
CONCURRENT = 10
BULK_BYTES = 256 << 20
PIECE = 256 << 10

EXEC = encode(FrameType.EXEC_REQ, ExecRequest(argv=("true",), no_stdin=True, exit_info=True).to_json())
OLD_EXEC = encode(FrameType.EXEC_REQ, ExecRequest(argv=("true",)).to_json())

TARGETS = {
    "agent: exec true": 1.15,
    "agent: exec true, new connection": 1.4,
    "agent: read 1 KiB": 0.12,
    "agent: read 1 KiB, new connection": 0.20,
    "agent: stat": 0.12,
    "agent: stat, new connection": 0.20,
    "agent: ten execs": 1.3,
    "agent: download": 0.6,
    "agent: upload": 0.6,
}
"""Ratios asked for: to a bare spawn for latencies, to a plain socket copy for transfers. An upload is compared with
a copy that ends in a file as well: the kernel alone takes longer to write a file than two processes to pass its
bytes on."""


def latency_rows(process: AgentProcess, directory: Path, smallest: Case) -> list[Row]:
    """Measure what is one request and one answer."""
    small = directory / "small"
    small.write_bytes(os.urandom(1024))
    read = encode(FrameType.FILE_READ_REQ, FileReadRequest(path=str(small)).to_json())
    stat = encode(FrameType.FILE_STAT_REQ, FileStatRequest(path=str(small)).to_json())
    write = encode(
        FrameType.FILE_WRITE_REQ, FileWriteRequest(path=str(directory / "w"), mode="0644", size=1024).to_json()
    )
    write += encode(FrameType.STDIN, bytes(1024))
    client = RawClient(process.control)
    client.hello()
    terminal = _terminal(process)
    many = [RawClient(process.control) for _ in range(CONCURRENT)]
    cases: dict[str, Case] = {
        "spawn true": spawn,
        "smallest agent: exec true": smallest,
        "agent: exec true": lambda: client.request(EXEC, FrameType.EXIT),
        "agent: exec true, new connection": lambda: once(process.control, OLD_EXEC, FrameType.EXIT),
        "agent: read 1 KiB": lambda: client.request(read, FrameType.EXIT),
        "agent: read 1 KiB, new connection": lambda: once(process.control, read, FrameType.EXIT),
        "agent: stat": lambda: client.request(stat, FrameType.FILE_STAT_RESP),
        "agent: stat, new connection": lambda: once(process.control, stat, FrameType.FILE_STAT_RESP),
        "agent: write 1 KiB": lambda: client.request(write, FrameType.FILE_WRITE_RESP),
        "agent: session echo": lambda: terminal.request(encode(FrameType.STDIN, b"x"), FrameType.STDOUT),
        "spawn ten at once": lambda: spawn_many(CONCURRENT),
        "agent: ten execs": lambda: _exec_on_all(many),
    }

    async def measure() -> dict[str, list[float]]:
        async with GuestLink(UnixTransport(process.control, process.forward)) as link:
            path, content = str(small), bytes(1024)
            cases["link: exec true"] = lambda: link.exec(["true"])
            cases["link: read 1 KiB"] = lambda: link.read_file(path)
            cases["link: stat"] = lambda: link.stat(path)
            cases["link: write 1 KiB"] = lambda: link.write_file(path, content)
            return await take_turns(cases, ROUNDS, block=BLOCK)

    seconds = asyncio.run(measure())
    for raw in (client, terminal, *many):
        raw.close()
    single, ten = (row(name, seconds[name]) for name in ("spawn true", "spawn ten at once"))
    result = [single]
    for name in cases:
        if name == ten.name:
            result.append(ten)
        elif name != single.name:
            floor = ten if name == "agent: ten execs" else single
            result.append(row(name, seconds[name], floor=floor, target=TARGETS.get(name)))
    return result


def _terminal(process: AgentProcess) -> RawClient:
    """Open a session whose terminal echoes and whose program does nothing."""
    client = RawClient(process.control)
    request = ExecRequest(argv=("sleep", "1000"), tty=True)
    client.request(encode(FrameType.EXEC_REQ, request.to_json()), FrameType.SESSION_INFO)
    return client


def _exec_on_all(clients: list[RawClient]) -> None:
    for client in clients:
        client.send(EXEC)
    for client in clients:
        client.request(b"", FrameType.EXIT)


def bulk_rows(process: AgentProcess, directory: Path) -> list[Row]:
    """Measure what moves much: to and from a file in memory, so that no disk is measured."""
    large = directory / "large"
    large.write_bytes(os.urandom(1 << 20) * (BULK_BYTES >> 20))
    download = encode(FrameType.FILE_READ_REQ, FileReadRequest(path=str(large)).to_json())
    upload = FileWriteRequest(path=str(directory / "uploaded"), mode="0644", size=BULK_BYTES)
    buffer = memoryview(bytearray(PIECE))
    frame = memoryview(encode(FrameType.STDIN, os.urandom(PIECE)))
    client = RawClient(process.control)
    client.hello()

    def raw_upload() -> None:
        client.send(encode(FrameType.FILE_WRITE_REQ, upload.to_json()))
        for _ in range(BULK_BYTES // PIECE):
            client.send(frame)
        client.request(b"", FrameType.FILE_WRITE_RESP)

    def raw_download() -> None:
        assert client.download(download, buffer) > BULK_BYTES

    async def measure() -> dict[str, list[float]]:
        async with GuestLink(UnixTransport(process.control, process.forward)) as link:

            async def link_download() -> None:
                async with link.open_read(str(large)) as reading:
                    assert sum([len(chunk) async for chunk in reading.chunks()]) == BULK_BYTES

            content = large.read_bytes()
            cases: dict[str, Case] = {
                "plain socket copy": lambda: _plain_copy(buffer),
                "plain copy into a file": lambda: _plain_copy_to_file(frame, directory / "plain"),
                "agent: download": raw_download,
                "agent: upload": raw_upload,
                "link: download": link_download,
                "link: upload": lambda: link.write_file(str(directory / "uploaded"), content),
            }
            return await take_turns(cases, BULK_ROUNDS, warm_up=1)

    seconds = asyncio.run(measure())
    client.close()
    megabytes = BULK_BYTES / 1e6
    floors = {
        name: row(name, seconds.pop(name), amount=megabytes, rate_unit="MB")
        for name in ("plain socket copy", "plain copy into a file")
    }
    return list(floors.values()) + [
        row(
            name,
            times,
            floor=floors["plain copy into a file" if "upload" in name else "plain socket copy"],
            target=TARGETS.get(name),
            amount=megabytes,
            rate_unit="MB",
        )
        for name, times in seconds.items()
    ]


def _plain_copy(buffer: memoryview) -> None:
    """Receive from another Python process that sends from memory, in large pieces, and forget it."""
    near, far = socket.socketpair()
    child = os.fork()
    if child == 0:
        near.close()
        piece = bytes(PIECE)
        for _ in range(BULK_BYTES // PIECE):
            far.sendall(piece)
        os._exit(0)
    far.close()
    with near:
        while near.recv_into(buffer):
            pass
    os.waitpid(child, 0)


def _plain_copy_to_file(piece: memoryview, path: Path) -> None:
    """Send to another Python process that does what an upload cannot do without: write, sync, rename."""
    near, far = socket.socketpair()
    child = os.fork()
    if child == 0:
        near.close()
        buffer = memoryview(bytearray(PIECE))
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        while size := far.recv_into(buffer):
            os.write(fd, buffer[:size])
        os.fsync(fd)
        Path(f"{path}.new").rename(path)
        os._exit(0)
    far.close()
    with near:
        for _ in range(BULK_BYTES // PIECE):
            near.sendall(piece[:PIECE])
    os.waitpid(child, 0)


def start_rows() -> list[Row]:
    """Measure from process start to a socket that accepts."""
    times = []
    for _ in range(STARTS):
        with agent() as process:
            times.append(process.started_in_s)
    return [row("agent: start", times)]


def rows() -> list[Row]:
    """Measure everything."""
    memory = Path("/dev/shm")
    directory = Path(os.environ.get("TMPDIR", "/tmp") if not memory.is_dir() else memory, f"bhatti-bench-{os.getpid()}")
    directory.mkdir()
    try:
        with agent() as process, smallest_agent() as smallest:
            result = latency_rows(process, directory, smallest) + bulk_rows(process, directory)
    finally:
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
    return result + start_rows()


if __name__ == "__main__":
    report("The agent and the link", rows())
