"""The forward port: TCP connections into the agent's machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.agent.agents import wait_until

from lohar.wire.frames import HEADER_SIZE, FrameType, encode, try_parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.agent.agents import Agent, LocalAgent
    from tests.agent.client import Connection

SERVER = """
import socket, sys, threading
family = socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET
listener = socket.create_server(("::1" if sys.argv[1] == "6" else "127.0.0.1", 0), family=family)
print(listener.getsockname()[1], flush=True)
def echo(sock):
    with sock:
        while data := sock.recv(65536):
            sock.sendall(data)
        if sys.argv[2] == "farewell":
            sock.sendall(b"bye")
def push(sock):
    with sock:
        for _ in range(1024):
            sock.sendall(bytes(65536))
def hang_up(sock):
    sock.sendall(b"last words")
    sock.shutdown(socket.SHUT_WR)
    received = 0
    while data := sock.recv(65536):
        received += len(data)
    print("received", received, flush=True)
    sock.close()
serve = {"echo": echo, "farewell": echo, "push": push, "hang-up": hang_up}[sys.argv[2]]
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
"""Runs on the agent's machine, which is not this one when that is a virtual machine."""


class Server:
    """A TCP server where the agent is."""

    def __init__(self, connection: Connection, port: int) -> None:
        self.connection = connection
        self.port = port


@pytest.fixture
def serve(agent: Agent) -> Iterator[Callable[..., Server]]:
    """Start servers; they end with the test."""
    connections: list[Connection] = []

    def start(what: str, family: str = "4") -> Server:
        connection = agent.connect()
        connections.append(connection)
        connection.start("/usr/bin/python3", "-c", SERVER, family, what)
        return Server(connection, int(connection.read_until(b"\n")))

    yield start
    for connection in connections:
        connection.close()


def ask(sock: socket.socket, port: object) -> dict[str, Any]:
    """Send FWD_REQ and return the answer, taking not one byte more from the stream."""
    sock.sendall(encode(FrameType.FWD_REQ, json.dumps({"port": port}).encode()))
    return answer(sock)


def answer(sock: socket.socket) -> dict[str, Any]:
    data = b""
    while (frame := try_parse(data)) is None:
        more = sock.recv(HEADER_SIZE - len(data) if len(data) < HEADER_SIZE else _missing(data))
        assert more, data
        data += more
    assert frame[0] == FrameType.FWD_RESP
    return dict(json.loads(data[frame[1] : frame[2]]))


def _missing(data: bytes) -> int:
    return 4 + int.from_bytes(data[:4], "big") - len(data)


def receive_all(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def test_bytes_go_there_and_back(agent: Agent, serve: Callable[..., Server]) -> None:
    server = serve("echo")
    with agent.connect_forward() as sock:
        assert ask(sock, server.port) == {"status": "ok"}
        sock.sendall(b"ping")
        assert sock.recv(100) == b"ping"


@pytest.mark.parametrize("size", [65536, 8 << 20])
def test_large_data_comes_back_identical(agent: Agent, serve: Callable[..., Server], size: int) -> None:
    server = serve("echo")
    data = hashlib.shake_128(b"forward").digest(size)
    with agent.connect_forward() as sock:
        ask(sock, server.port)
        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.append(receive_all(sock)))
        reader.start()
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        reader.join()
    assert received[0] == data


def test_a_port_without_listener_is_refused(agent: Agent) -> None:
    with agent.connect_forward() as sock:
        response = ask(sock, 59999)
        assert response["status"] == "error"
        assert "refused" in response["message"]
        assert sock.recv(100) == b""


def test_a_listener_on_ipv6_alone_is_found(agent: Agent, serve: Callable[..., Server]) -> None:
    if agent.sh("cat /proc/net/if_inet6 2>/dev/null | grep -c ' lo' || true").strip() == "0":
        pytest.skip("no IPv6 on the agent's loopback")
    server = serve("echo", "6")
    with agent.connect_forward() as sock:
        assert ask(sock, server.port) == {"status": "ok"}
        sock.sendall(b"six")
        assert sock.recv(100) == b"six"


def test_each_direction_ends_by_itself(agent: Agent, serve: Callable[..., Server]) -> None:
    server = serve("farewell")
    with agent.connect_forward() as sock:
        ask(sock, server.port)
        sock.sendall(b"question")
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b"questionbye"


def test_the_server_may_end_first_and_still_receive(agent: Agent, serve: Callable[..., Server]) -> None:
    server = serve("hang-up")
    with agent.connect_forward() as sock:
        ask(sock, server.port)
        assert receive_all(sock) == b"last words"
        sock.sendall(bytes(1 << 20))
        sock.shutdown(socket.SHUT_WR)
        assert server.connection.read_until(b"\n") == b"received 1048576\n"


@pytest.mark.parametrize(
    ("payload", "words"),
    [(b"{", "bad forward request"), (b'{"port":"x"}', "port"), (b'{"port":70000}', "port"), (b"{}", "port")],
)
def test_malformed_requests_are_refused(agent: Agent, payload: bytes, words: str) -> None:
    with agent.connect_forward() as sock:
        sock.sendall(encode(FrameType.FWD_REQ, payload))
        response = answer(sock)
        assert response["status"] == "error"
        assert words in response["message"]


def test_another_frame_is_refused(agent: Agent) -> None:
    with agent.connect_forward() as sock:
        sock.sendall(encode(FrameType.EXEC_REQ, b"{}"))
        assert answer(sock)["message"] == "expected FWD_REQ, got 0x10"


@pytest.mark.parametrize("data", [bytes(5), b"\xff\xff\xff\xff\x20"])
def test_what_is_no_frame_ends_the_connection(agent: Agent, data: bytes) -> None:
    with agent.connect_forward() as sock:
        sock.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""


def test_bytes_sent_before_the_answer_are_passed_on(agent: Agent, serve: Callable[..., Server]) -> None:
    server = serve("echo")
    with agent.connect_forward() as sock:
        sock.sendall(encode(FrameType.FWD_REQ, b'{"port":%d}' % server.port) + b"early")
        assert answer(sock) == {"status": "ok"}
        assert sock.recv(100) == b"early"


def test_open_forwards_are_counted_and_leave_nothing(local: LocalAgent, serve: Callable[..., Server]) -> None:
    server = serve("echo")
    descriptors = local.descriptors()
    socks = [local.connect_forward() for _ in range(20)]
    for sock in socks:
        ask(sock, server.port)
    assert local.facts()["forwards"] == 20
    for sock in socks:
        sock.close()
    wait_until(lambda: local.facts()["forwards"] == 0, "all forwards have ended")
    wait_until(lambda: local.descriptors() == descriptors, "no descriptor is left")


def test_a_slow_client_costs_a_bounded_buffer(local: LocalAgent, serve: Callable[..., Server]) -> None:
    server = serve("push")
    memory = local.memory_kib()
    with local.connect_forward() as sock, local.connect() as connection:
        ask(sock, server.port)
        connection.hello()
        for _ in range(20):
            assert connection.exec("true").code == 0
        assert local.memory_kib() - memory < 4096
        assert len(receive_all(sock)) == 64 << 20
    assert local.memory_kib() - memory < 4096


def test_a_client_that_dies_with_data_under_way_frees_both_ends(
    local: LocalAgent, serve: Callable[..., Server]
) -> None:
    descriptors = local.descriptors()
    server = serve("push")
    for _ in range(10):
        with local.connect_forward() as sock:
            ask(sock, server.port)
    server.connection.close()
    wait_until(lambda: local.descriptors() == descriptors, "no descriptor is left")
