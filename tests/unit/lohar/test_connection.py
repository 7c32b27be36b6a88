import socket
from collections.abc import Iterator

import pytest

from lohar.connection import HIGH_WATER, Connection
from lohar.failures import RequestError
from lohar.loop import Loop
from lohar.operation import Operation
from lohar.wire.frames import FrameParser, FrameType, encode


class Recorder(Operation):
    """An operation that notes what it is told."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.seen: list[object] = []

    def frame(self, kind: int, payload: bytes) -> None:
        self.seen.append((kind, bytes(payload)))
        if payload == b"finish":
            self.connection.send(FrameType.EXIT, b"done")
            self.connection.finish()

    def end(self) -> None:
        self.seen.append("end")

    def lost(self) -> None:
        self.seen.append("lost")

    def drained(self) -> None:
        self.seen.append("drained")


class Line:
    """A connection and its far end."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.far, near = socket.socketpair()
        near.setblocking(False)
        self.far.setblocking(False)
        self.operations: list[Recorder] = []
        self.closed = 0
        self.keep_alive = True
        self.connection = Connection(self.loop, near, self._dispatch, self._on_close)
        self._parser = FrameParser()

    def _dispatch(self, connection: Connection, kind: int, payload: bytes) -> Operation | None:
        connection.keep_alive = self.keep_alive
        if kind == FrameType.EXEC_REQ:
            self.operations.append(Recorder(connection))
            return self.operations[-1]
        if kind == FrameType.FILE_STAT_REQ:
            connection.send(FrameType.FILE_STAT_RESP, payload)
            return None
        raise RequestError("refused")

    def _on_close(self, _connection: Connection) -> None:
        self.closed += 1

    def turn(self, count: int = 5) -> None:
        for _ in range(count):
            self.loop.turn(0.01)

    def receive(self) -> list[tuple[int, bytes]]:
        """Turn until nothing more comes; return the frames, and (-1, b"") for the end of the stream."""
        ended: list[tuple[int, bytes]] = []
        frames: list[tuple[int, bytes]] = []
        while not ended:
            self.turn()
            try:
                data = self.far.recv(1 << 20)
            except BlockingIOError:
                break
            if not data:
                ended.append((-1, b""))
            self._parser.feed(data)
            frames += self._parser.frames()
        return frames + ended


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.connection.drop()
    made.far.close()
    made.loop.close()


def test_requests_are_answered_one_after_the_other(line: Line) -> None:
    line.far.send(encode(FrameType.FILE_STAT_REQ, b"1") + encode(FrameType.FILE_STAT_REQ, b"2"))
    assert line.receive() == [(FrameType.FILE_STAT_RESP, b"1"), (FrameType.FILE_STAT_RESP, b"2")]


def test_a_request_sent_early_waits_for_the_one_under_way(line: Line) -> None:
    line.far.send(encode(FrameType.EXEC_REQ) + encode(FrameType.FILE_STAT_REQ, b"next"))
    assert line.receive() == []
    line.operations[0].frame(FrameType.STDIN, b"finish")
    assert line.receive() == [(FrameType.EXIT, b"done"), (FrameType.FILE_STAT_RESP, b"next")]


def test_what_was_still_sent_to_an_ended_request_is_no_error(line: Line) -> None:
    line.far.send(encode(FrameType.EXEC_REQ) + encode(FrameType.STDIN, b"finish") + encode(FrameType.STDIN, b"late"))
    line.far.send(encode(FrameType.KILL) + encode(FrameType.FILE_STAT_REQ, b"next"))
    assert line.receive() == [(FrameType.EXIT, b"done"), (FrameType.FILE_STAT_RESP, b"next")]


def test_without_keep_alive_the_agent_closes_after_its_answer(line: Line) -> None:
    line.keep_alive = False
    line.far.send(encode(FrameType.FILE_STAT_REQ, b"1"))
    assert line.receive() == [(FrameType.FILE_STAT_RESP, b"1"), (-1, b"")]
    line.far.close()
    line.turn()
    assert line.closed == 1


def test_a_refusal_is_an_answer(line: Line) -> None:
    line.far.send(encode(FrameType.ACTIVITY_REQ) + encode(FrameType.FILE_STAT_REQ, b"next"))
    assert line.receive() == [(FrameType.ERROR, b"refused"), (FrameType.FILE_STAT_RESP, b"next")]


@pytest.mark.parametrize("garbage", [b"\0\0\0\0\x01", b"\xff\xff\xff\xff\x01"])
def test_what_is_no_frame_ends_the_connection_after_the_good_ones(line: Line, garbage: bytes) -> None:
    line.far.send(encode(FrameType.FILE_STAT_REQ, b"good") + garbage)
    frames = line.receive()
    assert frames[-1] == (-1, b"")
    assert line.closed == 1


def test_a_half_close_is_told_to_the_operation_and_a_loss_too(line: Line) -> None:
    line.far.send(encode(FrameType.EXEC_REQ))
    line.turn()
    line.far.shutdown(socket.SHUT_WR)
    line.turn()
    assert line.operations[0].seen == ["end"]
    line.far.close()
    line.turn()
    assert line.operations[0].seen == ["end", "lost"]
    assert line.closed == 1


def test_a_slow_reader_congests_the_connection_and_is_told_when_it_has_caught_up(line: Line) -> None:
    line.far.send(encode(FrameType.EXEC_REQ))
    line.turn()
    sent = 0
    while not line.connection.congested:
        line.connection.send(FrameType.STDOUT, bytes(64 << 10))
        sent += 1
        line.turn(1)
        assert sent * (64 << 10) < 4 * HIGH_WATER + (4 << 20)
    assert line.operations[0].seen == []
    frames = line.receive()
    assert len(frames) == sent
    assert line.operations[0].seen == ["drained"]
    assert not line.connection.congested


def test_a_paused_connection_reads_nothing_but_notices_the_end(line: Line) -> None:
    line.far.send(encode(FrameType.EXEC_REQ))
    line.turn()
    line.connection.pause()
    line.far.send(encode(FrameType.STDIN, b"later"))
    line.turn()
    assert line.operations[0].seen == []
    line.connection.resume()
    line.turn()
    assert line.operations[0].seen == [(FrameType.STDIN, b"later")]
    line.connection.pause()
    line.far.close()
    line.turn()
    assert line.operations[0].seen[-1] == "lost"


def test_dropping_twice_tells_once(line: Line) -> None:
    line.connection.drop()
    line.connection.drop(abort=True)
    line.connection.send(FrameType.STDOUT, b"to nobody")
    assert line.closed == 1
