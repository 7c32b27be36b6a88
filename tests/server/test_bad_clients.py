"""Clients that send what is not right, stop in the middle, or come in numbers: nobody else suffers."""

import base64
import contextlib
import os
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.daemons import Daemon, daemon

from bhatti.errors import Unavailable
from bhatti.operations import table, types
from bhatti.sdk.client import Client

pytestmark = pytest.mark.timeout(120)

FEW = 160
"""Descriptors that the daemon is left with: enough for what it does, too few for who wants to use them up."""

MANY = 10_000


@pytest.fixture(scope="module")
def served() -> Iterator[Daemon]:
    with daemon() as found:
        found.out("create", "one")
        yield found
        assert "defect" not in found.log, found.log[found.log.index("defect") :][:4000]


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many descriptors for this process as there may be."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < MANY + 1000:
        pytest.skip(f"needs {MANY + 1000} descriptors: ulimit -n says {before[1]}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (MANY + 1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def connected(served: Daemon) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.connect(served.endpoint.path)  # with a deadline, a full backlog would turn us away instead of letting us wait
    found.settimeout(60)
    return found


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def descriptors(served: Daemon) -> int:
    assert served.process is not None
    return len(os.listdir(f"/proc/{served.process.pid}/fd"))  # noqa: PTH208


def echoes(client: Client) -> bool:
    """Say whether a command runs; it may also be refused because there are too many callers, and only so."""
    try:
        return client.call(table.EXEC, types.ExecRequest(cmd=["echo", "here"]), id="one").stdout == "here\n"
    except Unavailable:
        return False


def refused(client: Client) -> bool:
    """Say whether what needs descriptors is refused, which it is in one way alone."""
    try:
        client.call(table.SANDBOX_LIST)
    except Unavailable as err:
        return (err.code, err.http_status) == ("too-many-open-files", 503)
    return False


def test_at_its_limit_the_daemon_says_so_and_comes_back(served: Daemon) -> None:
    assert served.process is not None
    before = resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(served.client())
        assert echoes(client)
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (FEW, before[1]))
        stack.callback(lambda: resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, before))  # type: ignore[union-attr]
        for _ in range(FEW):
            stack.enter_context(connected(served))  # those beyond the limit wait in the backlog
        until(lambda: descriptors(served) >= FEW)
        assert client.call(table.HEALTH).status == "ok"
        until(lambda: refused(client))
        echoes(client)
    with served.client() as client:
        until(lambda: echoes(client))
        assert [sandbox.name for sandbox in client.call(table.SANDBOX_LIST)] == ["one"]


@pytest.mark.usefixtures("many_files")
def test_ten_thousand_connections_hold_up_nobody(served: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(connected(served)).sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        until(lambda: descriptors(served) >= MANY)
        with served.client() as client:
            assert echoes(client)
    until(lambda: descriptors(served) < FEW)


def frame(opcode: int, payload: bytes = b"", *, flags: int = 0x80, masked: bool = True, length: int = -1) -> bytes:
    """A WebSocket frame as RFC 6455 section 5.2 has it, unless an argument says otherwise."""
    size = len(payload) if length < 0 else length
    mask = 0x80 if masked else 0
    head = bytes([flags | opcode])
    if size < 126:
        head += bytes([mask | size])
    elif size < 1 << 16:
        head += struct.pack("!BH", mask | 126, size)
    else:
        head += struct.pack("!BQ", mask | 127, size)
    return head + (b"\0\0\0\0" if masked else b"") + payload


OUT_OF_PROTOCOL = {
    "an opcode that there is not": frame(0x3, b"x"),
    "reserved bits": frame(0x2, b"x", flags=0xF0),
    "a continuation of nothing": frame(0x0, b"x"),
    "a fragmented ping": frame(0x9, b"x", flags=0),
    "a long ping": frame(0x9, b"x" * 126),
    "a message that is too large": frame(0x2, b"x" * 1000, length=1 << 30),
    "a length that no machine has": frame(0x2, b"x", length=(1 << 63) - 1),
    "text that is none": frame(0x1, b"\xff\xfe"),
    "a goodbye of one byte": frame(0x8, b"x"),
    "a goodbye with a code that there is not": frame(0x8, struct.pack("!H", 5)),
    "a text within another": frame(0x1, b"a", flags=0) + frame(0x1, b"b"),
}


@pytest.mark.parametrize("path", ["/sandboxes/one/ws?cmd=cat", "/sandboxes/one/exec/ws"])
@pytest.mark.parametrize("wrong", OUT_OF_PROTOCOL.values(), ids=OUT_OF_PROTOCOL.keys())
def test_a_frame_out_of_protocol_ends_that_socket_alone(served: Daemon, path: str, wrong: bytes) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    with connected(served) as peer, peer.makefile("rb") as answers, served.client() as client:
        peer.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        assert answers.readline().startswith(b"HTTP/1.1 101 ")
        peer.sendall(wrong)
        told = answers.read()  # to the end, which comes
        assert b"Traceback" not in told
        assert echoes(client)


def test_an_upload_in_pieces_that_is_cut_leaves_nothing(served: Daemon, tmp_path: Path) -> None:
    for rest in (b"", b"400\r\nhalf of it", b"not a size\r\n", b"ffffffffffffffffff\r\n"):
        with connected(served) as peer:
            head = f"PUT /sandboxes/one/files?path={tmp_path}/file HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked"
            peer.sendall(head.encode() + b"\r\n\r\n" + b"10000\r\n" + b"x" * 0x10000 + b"\r\n" + rest)
            peer.shutdown(socket.SHUT_WR)
            answer = peer.makefile("rb").read()
        assert b"Traceback" not in answer
        assert answer == b"" or answer.split()[1] == b"400"
        until(lambda: not os.listdir(tmp_path))  # noqa: PTH208
    with served.client() as client:
        assert echoes(client)


@pytest.mark.parametrize(
    ("path", "code"),
    [("/tmp/a%00b", "bad-path"), ("/" + "a" * 10_000, "invalid-field"), ("", "invalid-field")],
    ids=["with a NUL", "of 10,000 characters", "empty"],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_path_that_no_file_can_have_is_refused(served: Daemon, method: str, path: str, code: str) -> None:
    with connected(served) as peer:
        head = (
            f"{method} /sandboxes/one/files?path={path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1"
        )
        peer.sendall(head.encode() + b"\r\n\r\nx")
        answer = peer.makefile("rb").read()
    assert answer.split()[1] == b"400"
    assert f'"code":"{code}"'.encode() in answer
