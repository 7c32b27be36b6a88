"""A slow or huge transfer does not grow the agent."""

from __future__ import annotations

import time

import pytest
from tests.agent.agents import LocalAgent, wait_until

from lohar.wire.frames import FrameType, header

GIB = 1 << 30

SLACK_KIB = 4096
"""What buffers for one transfer and the allocator's whims may take."""


def make_sparse(local: LocalAgent, size: int) -> str:
    with local.file("big").open("wb") as file:
        file.truncate(size)
    return local.path("big")


def test_a_slow_reader_stops_the_command_and_not_the_agent(local: LocalAgent) -> None:
    before = local.memory_kib()
    with local.connect() as slow, local.connect() as other:
        slow.start("head", "-c", str(64 << 20), "/dev/zero")
        other.hello()
        for _ in range(20):  # the command had time to fill whatever there is to fill
            assert other.exec("true").code == 0
        assert local.memory_kib() - before < SLACK_KIB
        result = slow.collect()
    assert len(result.stdout) == 64 << 20
    assert local.memory_kib() - before < SLACK_KIB


def test_a_slow_reader_of_a_file_costs_one_batch(local: LocalAgent) -> None:
    path = make_sparse(local, 64 << 20)
    before = local.memory_kib()
    with local.connect() as slow, local.connect() as other:
        slow.send_json(FrameType.FILE_READ_REQ, path=path)
        other.hello()
        for _ in range(20):
            assert other.exec("true").code == 0
        assert local.memory_kib() - before < SLACK_KIB


def test_a_command_that_does_not_read_costs_a_bounded_buffer(local: LocalAgent) -> None:
    before = local.memory_kib()
    with local.connect() as connection:
        connection.start("sleep", "60")
        assert connection.send_until_full(FrameType.STDIN, b"x" * 65536, 64 << 20) < 8 << 20
    assert local.memory_kib() - before < SLACK_KIB


@pytest.mark.timeout(300)
def test_a_gigabyte_comes_down_in_constant_memory(local: LocalAgent) -> None:
    path = make_sparse(local, GIB)
    before = peak = local.memory_kib()
    received = 0
    with local.connect().in_pieces() as connection:
        connection.send_json(FrameType.FILE_READ_REQ, path=path)
        assert connection.expect_json(FrameType.FILE_READ_RESP)["size"] == GIB
        while (frame := connection.receive())[0] == FrameType.STDOUT:
            received += len(frame[1])
            if received % (1 << 20) == 0:
                peak = max(peak, local.memory_kib())
        assert frame == (FrameType.EXIT, bytes(4))
    assert received == GIB
    assert max(peak, local.memory_kib()) - before < SLACK_KIB


@pytest.mark.timeout(300)
def test_a_gigabyte_goes_up_in_constant_memory(local: LocalAgent) -> None:
    path = local.path("big")
    before = local.memory_kib()
    piece = header(FrameType.STDIN, 256 << 10) + bytes(256 << 10)
    with local.connect() as connection:
        connection.send_json(FrameType.FILE_WRITE_REQ, path=path, size=GIB)
        for number in range(GIB // (256 << 10)):
            connection.send_raw(piece)
            if number % 256 == 0:
                assert local.memory_kib() - before < SLACK_KIB
        assert connection.expect_json(FrameType.FILE_WRITE_RESP) == {"status": "ok"}
    assert local.file("big").stat().st_size == GIB
    assert local.memory_kib() - before < SLACK_KIB
    local.file("big").unlink()


def test_ten_thousand_requests_leave_nothing(local: LocalAgent) -> None:
    path = local.path("small")
    local.file("small").write_bytes(b"x" * 1024)
    with local.connect() as connection:
        connection.hello()

        def requests(count: int) -> None:
            for _ in range(count):
                connection.ask(FrameType.FILE_STAT_REQ, FrameType.FILE_STAT_RESP, path=path)
                connection.send_json(FrameType.FILE_READ_REQ, path=path)
                connection.expect(FrameType.FILE_READ_RESP)
                connection.expect(FrameType.STDOUT)
                connection.expect(FrameType.EXIT)
            for _ in range(count // 20):
                assert connection.exec("true", timeout_sec=3600).code == 0

        requests(500)  # whatever is loaded or grown at first use
        memory, descriptors = local.memory_kib(), local.descriptors()
        requests(4700)
        assert local.memory_kib() - memory < 512
        assert local.descriptors() == descriptors
        assert not local.children()


def test_a_thousand_connections_leave_nothing(local: LocalAgent) -> None:
    def connections(count: int) -> None:
        for _ in range(count):
            with local.connect() as connection:
                connection.ask(FrameType.FILE_STAT_REQ, FrameType.FILE_STAT_RESP, path="/")

    connections(100)
    memory, descriptors = local.memory_kib(), local.descriptors()
    connections(1000)
    wait_until(lambda: local.descriptors() == descriptors, "all descriptors are closed")
    assert local.memory_kib() - memory < 512


def test_fifty_sessions_with_full_scrollbacks_fit(local: LocalAgent) -> None:
    for _ in range(50):
        with local.connect() as connection:
            connection.open_session("sh", "-c", "head -c 100000 /dev/zero; sleep 60")
            connection.read_while(lambda seen: len(seen) < 100_000)
    assert len(local.sessions()) == 50
    assert local.memory_kib() < 25 * 1024


def test_an_idle_agent_is_small(local: LocalAgent) -> None:
    assert local.memory_kib() < 14 * 1024 * 1.15  # measured exactly by `bench/agent.py`; other machines may differ


def test_the_start_is_quick(local: LocalAgent) -> None:
    folder = local.root / "second"
    folder.mkdir()
    began = time.monotonic()
    second = LocalAgent(folder)
    took = time.monotonic() - began
    second.close()
    assert took < 1.5  # 0.15 s on a quiet machine


def test_sessions_that_were_delivered_leave_nothing(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.hello()

        def sessions(count: int) -> None:
            for _ in range(count):
                connection.open_session("head", "-c", "70000", "/dev/zero", session=True)
                assert connection.collect().code == 0

        sessions(20)
        memory = local.memory_kib()
        sessions(200)  # 13 MB, if their scrollbacks stayed
        assert local.memory_kib() - memory < 2048
