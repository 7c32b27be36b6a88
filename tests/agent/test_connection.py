"""Connections: kept or closed, let in or refused, well-behaved or not."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.agent.agents import wait_until

from lohar.wire.frames import FrameType, encode, encode_all
from lohar.wire.messages import Identity

if TYPE_CHECKING:
    from tests.agent.agents import Agent, LocalAgent
    from tests.agent.client import Connection

TOKEN = "a secret of thirty-two characters"


# --- one request for each connection: the reference protocol


def test_without_hello_the_agent_closes_after_each_reply(local: LocalAgent) -> None:
    requests: tuple[tuple[int, dict[str, object]], ...] = (
        (FrameType.EXEC_REQ, {"argv": ["true"]}),
        (FrameType.EXEC_REQ, {"argv": ["/nonexistent"]}),
        (FrameType.FILE_STAT_REQ, {"path": "/"}),
        (FrameType.FILE_LS_REQ, {"path": local.directory}),
        (FrameType.FILE_READ_REQ, {"path": "/etc/passwd"}),
        (FrameType.FILE_WRITE_REQ, {"path": local.path("f"), "size": 0}),
        (FrameType.EXEC_LIST_REQ, {}),
        (FrameType.ACTIVITY_REQ, {}),
    )
    for kind, message in requests:
        with local.connect() as connection:
            connection.send_json(kind, **message)
            frames = connection.receive_all()
        assert frames, FrameType(kind).name


def test_a_second_request_is_not_served_without_hello(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.ask(FrameType.FILE_STAT_REQ, FrameType.FILE_STAT_RESP, path="/")
        connection.expect_closed()


def test_a_client_may_half_close_before_the_answer(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.send_json(FrameType.FILE_READ_REQ, path="/etc/services")
        connection.sock.shutdown(socket.SHUT_WR)
        connection.expect(FrameType.FILE_READ_RESP)
        assert connection.collect().stdout


# --- many requests on one connection


def test_after_hello_the_connection_serves_on(agent: Agent) -> None:
    with agent.connect() as connection:
        hello = connection.hello()
        assert hello["revision"] == 2
        assert "keep-alive" in hello["features"]
        for number in range(50):
            assert connection.exec("echo", str(number)).stdout == b"%d\n" % number
            connection.ask(FrameType.FILE_STAT_REQ, FrameType.FILE_STAT_RESP, path="/")
            assert "no such file" in connection.ask_error(FrameType.FILE_STAT_REQ, path="/nonexistent")


def test_one_hello_is_enough_for_all_connections_of_a_host(agent: Agent) -> None:
    with agent.connect() as first:
        first.hello()
    with agent.connect() as second:
        for _ in range(3):
            second.ask(FrameType.FILE_STAT_REQ, FrameType.FILE_STAT_RESP, path="/")


def test_requests_sent_ahead_are_answered_in_order(connection: Connection) -> None:
    requests: list[tuple[int, bytes]] = []
    for number in range(20):
        requests.append((FrameType.EXEC_REQ, json.dumps({"argv": ["echo", str(number)]}).encode()))
        requests.append((FrameType.FILE_STAT_REQ, b'{"path":"/"}'))
    connection.send_raw(encode_all(requests))
    for number in range(20):
        result = connection.collect()
        assert (result.code, result.stdout) == (0, b"%d\n" % number)
        connection.expect(FrameType.FILE_STAT_RESP)


def test_what_was_meant_for_a_command_that_has_ended_is_ignored(connection: Connection) -> None:
    for _ in range(20):
        connection.start("true")
        connection.send(FrameType.STDIN, b"late input")
        connection.send(FrameType.RESIZE, bytes(4))
        connection.send(FrameType.STDIN)
        connection.send(FrameType.KILL)
        assert connection.collect().code in (0, 137)
        connection.send(FrameType.STDIN, b"later still")
        connection.send(FrameType.KILL)
        assert connection.exec("echo", "on").stdout == b"on\n"


def test_a_frame_of_a_command_cannot_come_first(agent: Agent) -> None:
    for kind in (FrameType.STDIN, FrameType.RESIZE, FrameType.KILL):
        with agent.connect() as connection:
            connection.send(kind)
            assert connection.expect(FrameType.ERROR).decode() == f"unexpected frame type 0x{kind:02x}"


def test_an_upload_that_fails_early_leaves_the_connection_usable(agent: Agent, connection: Connection) -> None:
    connection.send_json(FrameType.FILE_WRITE_REQ, path="/proc/no/such/place", size=100_000)
    for _ in range(10):
        connection.send(FrameType.STDIN, bytes(10_000))
    connection.expect(FrameType.ERROR)
    assert connection.exec("echo", "fine").stdout == b"fine\n"
    connection.write_file(agent.path("next"), b"x")


# --- nonsense


@pytest.mark.parametrize("kind", [0x00, 0x02, 0x08, 0x11, 0x12, 0x20, 0x60, 0x71, 0x99, 0xFF])
def test_an_unknown_type_is_refused_by_name(local: LocalAgent, kind: int) -> None:
    with local.connect() as connection:
        connection.send(kind, b"anything")
        assert connection.expect(FrameType.ERROR).decode() == f"unexpected frame type 0x{kind:02x}"
        connection.expect_closed()


@pytest.mark.parametrize(
    "data", [bytes(4), b"\0\0\0\0\x10", b"\0\x10\0\x01\x10", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_frame_ends_the_connection_without_a_word(agent: Agent, data: bytes) -> None:
    with agent.connect() as connection:
        connection.send_raw(data)
        connection.expect_closed()
    with agent.connect() as connection:
        assert connection.exec("true").code == 0


def test_a_broken_frame_after_good_ones_ends_the_connection(connection: Connection) -> None:
    connection.send_raw(encode(FrameType.EXEC_REQ, b'{"argv":["sleep","60"]}') + bytes(4))
    connection.expect_closed()


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"null", b"\xff", b'{"argv":"ls"}', b'{"argv":["a\\u0000"]}', b'{"argv":[1]}']
)
def test_a_malformed_request_is_refused(agent: Agent, payload: bytes) -> None:
    with agent.connect() as connection:
        connection.send(FrameType.EXEC_REQ, payload)
        assert connection.expect(FrameType.ERROR).startswith(b"bad exec request: ")


def test_malformed_requests_are_refused_by_their_names(connection: Connection) -> None:
    for kind, name in (
        (FrameType.EXEC_KILL, b"kill"),
        (FrameType.FILE_READ_REQ, b"read"),
        (FrameType.FILE_WRITE_REQ, b"write"),
        (FrameType.FILE_STAT_REQ, b"stat"),
        (FrameType.FILE_LS_REQ, b"list"),
        (FrameType.FILE_WATCH_REQ, b"watch"),
        (FrameType.IDENTITY_REQ, b"identity"),
        (FrameType.RESUMED_REQ, b"resumed"),
    ):
        connection.send(kind, b'{"path": 3}')
        assert connection.expect(FrameType.ERROR).startswith(b"bad %s request: " % name)


def test_a_request_may_come_byte_by_byte(connection: Connection) -> None:
    for byte in encode(FrameType.EXEC_REQ, b'{"argv":["echo","slow"]}'):
        connection.send_raw(bytes([byte]))
    assert connection.collect().stdout == b"slow\n"


def test_the_largest_frame_is_taken_and_a_larger_one_is_not(connection: Connection) -> None:
    payload = json.dumps({"argv": ["true"], "ignored": "x" * 1_048_000}).encode().ljust(1_048_575)
    connection.send(FrameType.EXEC_REQ, payload)
    assert connection.collect().code == 0
    connection.send_raw((1_048_577).to_bytes(4, "big") + b"\x10")
    connection.expect_closed()


# --- the token


@pytest.fixture
def guarded(local: LocalAgent) -> LocalAgent:
    """An agent that has been given a token."""
    with local.connect() as connection:
        connection.send(
            FrameType.IDENTITY_REQ,
            Identity(generation=1, clock_ns=time.time_ns(), entropy=bytes(32), token=TOKEN).to_json(),
        )
        connection.expect(FrameType.IDENTITY_RESP)
    return local


def test_the_token_opens_the_door(guarded: LocalAgent) -> None:
    with guarded.connect() as connection:
        connection.send(FrameType.AUTH, TOKEN.encode())
        assert connection.exec("echo", "in").stdout == b"in\n"


def test_the_token_and_the_request_may_come_together(guarded: LocalAgent) -> None:
    with guarded.connect() as connection:
        connection.send_raw(
            encode_all([(FrameType.AUTH, TOKEN.encode()), (FrameType.EXEC_REQ, b'{"argv":["echo","in"]}')])
        )
        assert connection.collect().stdout == b"in\n"


@pytest.mark.parametrize("token", [b"", b"wrong", TOKEN[:-1].encode(), TOKEN.encode() + b"x", b"\xff" * 33])
def test_a_wrong_token_is_refused(guarded: LocalAgent, token: bytes) -> None:
    with guarded.connect() as connection:
        connection.send(FrameType.AUTH, token)
        assert connection.expect(FrameType.ERROR) == b"auth required"
        connection.expect_closed()


def test_without_token_nothing_is_served(guarded: LocalAgent) -> None:
    for kind in (FrameType.EXEC_REQ, FrameType.HELLO_REQ, FrameType.STDIN, 0x99):
        with guarded.connect() as connection:
            connection.send(kind, b'{"argv":["true"]}')
            assert connection.expect(FrameType.ERROR) == b"auth required"
            connection.expect_closed()


def test_who_does_not_say_the_token_in_time_is_sent_away(guarded: LocalAgent) -> None:
    began = time.monotonic()
    with guarded.connect() as silent, guarded.connect_forward() as forward:
        assert silent.expect(FrameType.ERROR) == b"auth required"
        silent.expect_closed()
        assert b"auth required" in forward.recv(1000)
    assert time.monotonic() - began > 4


def test_a_patient_client_is_not_sent_away(guarded: LocalAgent) -> None:
    with guarded.connect() as connection:
        connection.send(FrameType.AUTH, TOKEN.encode())
        connection.hello()
        with pytest.raises(TimeoutError):
            connection.receive(patience_s=5.5)
        assert connection.exec("true").code == 0


def test_the_forward_port_wants_the_token_too(guarded: LocalAgent) -> None:
    with guarded.connect_forward() as sock:
        sock.sendall(encode(FrameType.FWD_REQ, b'{"port":1}'))
        assert b"auth required" in sock.recv(1000)
        assert sock.recv(1000) == b""
    with guarded.connect_forward() as sock:
        sock.sendall(encode(FrameType.AUTH, TOKEN.encode()) + encode(FrameType.FWD_REQ, b'{"port":1}'))
        assert b"refused" in sock.recv(1000)


# --- many


def test_two_hundred_connections_at_once(local: LocalAgent) -> None:
    connections = [local.connect() for _ in range(200)]
    for number, connection in enumerate(connections):
        connection.start("echo", str(number))
    for number, connection in enumerate(connections):
        result = connection.collect(patience_s=30)
        assert (result.error, result.code, result.stdout) == ("", 0, b"%d\n" % number)
        connection.close()


def test_two_hundred_connections_that_all_hold_a_command(local: LocalAgent) -> None:
    connections = [local.connect() for _ in range(200)]
    for connection in connections:
        connection.start("cat")
    for number, connection in enumerate(connections):
        connection.send(FrameType.STDIN, b"%d" % number)
        connection.send(FrameType.STDIN)
    for number, connection in enumerate(connections):
        assert connection.collect(patience_s=30).stdout == b"%d" % number
        connection.close()
    wait_until(lambda: not local.children(), "all commands are reaped")


def test_there_is_a_limit_to_connections(local: LocalAgent) -> None:
    with local.connect() as connection:
        limit = connection.hello()["limits"]["connections"]
        others = [local.connect() for _ in range(limit - 1)]
        with local.connect() as refused:
            assert refused.expect(FrameType.ERROR) == b"connection limit exceeded"
            refused.expect_closed()
        assert connection.exec("true").code == 0
        for other in others:
            other.close()
        wait_until(lambda: is_served(local), "there is room again")


def is_served(local: LocalAgent) -> bool:
    with local.connect() as connection:
        connection.send_json(FrameType.FILE_STAT_REQ, path="/")
        return connection.receive()[0] == FrameType.FILE_STAT_RESP


def test_clients_killed_at_random_moments_leave_nothing(local: LocalAgent) -> None:
    descriptors = local.descriptors()
    scripts = ("sleep 60", "yes", "cat", "sleep 60 & sleep 60", "exec 1>&- 2>&-; sleep 60", "kill $$")

    def use(seed: int) -> None:
        for number in range(12):
            connection = local.connect()
            what = (seed + number) % 5
            if what < 3:
                connection.start("sh", "-c", scripts[(seed * 7 + number) % len(scripts)])
            elif what == 3:
                connection.send_json(FrameType.FILE_WRITE_REQ, path=local.path(f"f{seed}"), size=1 << 20)
                connection.send(FrameType.STDIN, bytes(1000))
            else:
                connection.send_json(FrameType.FILE_READ_REQ, path="/proc/self/exe")
            time.sleep((seed * 13 + number * 7) % 10 / 1000)
            connection.close()

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: not local.children(), "no child is left")
    wait_until(lambda: local.descriptors() == descriptors, "no descriptor is left")
    assert list(local.file("").iterdir()) == []


def test_requests_sent_ahead_of_a_half_close_are_served(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.hello()
        for number in range(5):
            connection.start("sh", "-c", f"sleep 0.02; echo {number}")
        connection.sock.shutdown(socket.SHUT_WR)
        for number in range(5):
            assert connection.collect().stdout == b"%d\n" % number
        connection.expect_closed()


def test_a_large_answer_survives_a_half_close(agent: Agent) -> None:
    agent.sh(f"head -c 3000000 /dev/zero > {agent.path('large')}")
    with agent.connect() as connection:
        connection.hello()
        connection.send_json(FrameType.FILE_READ_REQ, path=agent.path("large"))
        connection.sock.shutdown(socket.SHUT_WR)
        connection.expect(FrameType.FILE_READ_RESP)
        assert len(connection.collect().stdout) == 3_000_000
        connection.expect_closed()
