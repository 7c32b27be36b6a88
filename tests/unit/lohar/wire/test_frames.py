import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from lohar.wire import frames
from lohar.wire.frames import (
    EmptyFrame,
    FrameParser,
    FrameTooLarge,
    FrameType,
    UnexpectedEOF,
    encode,
    try_parse,
)
from lohar.wire.limits import LIMITS
from lohar.wire.messages import ExecRequest, ForwardRequest, ForwardResponse

MAX_PAYLOAD = LIMITS.frame_length - 1


def parse_all(data: bytes) -> list[tuple[int, bytes]]:
    """Parse a whole stream, its end included."""
    parser = FrameParser()
    parser.feed(data)
    result = parser.frames()
    parser.feed_eof()
    return result


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 256], ids=["empty", "1 byte", "64 KiB"])
def test_a_frame_survives_the_round_trip(payload: bytes) -> None:
    assert parse_all(encode(FrameType.STDOUT, payload)) == [(FrameType.STDOUT, payload)]


def test_the_layout_is_length_type_payload_in_network_order() -> None:
    assert encode(0x02, b"hi") == b"\x00\x00\x00\x03\x02hi"
    assert frames.header(0x02, 2) == b"\x00\x00\x00\x03\x02"


def test_no_bytes_at_all_are_a_clean_end() -> None:
    assert parse_all(b"") == []


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 7], ids=lambda cut: f"after {cut} bytes")
def test_an_end_inside_a_frame_is_an_error(cut: int) -> None:
    with pytest.raises(UnexpectedEOF, match=f"{cut} bytes into it"):
        parse_all(encode(FrameType.STDIN, b"hello")[:cut])


def test_an_end_between_frames_is_clean_even_after_many() -> None:
    sequence = [
        (FrameType.EXEC_REQ, b"{}"),
        (FrameType.STDIN, b"in"),
        (FrameType.RESIZE, frames.encode_resize(24, 80)),
        (FrameType.STDOUT, b"out"),
        (FrameType.STDERR, b"err"),
        (FrameType.KILL, b""),
        (FrameType.SESSION_INFO, b"{}"),
        (FrameType.STDIN, b""),
        (FrameType.ERROR, b"no"),
        (FrameType.EXIT, frames.encode_exit(0)),
    ]
    assert parse_all(frames.encode_all(sequence)) == sequence


def test_a_payload_above_the_limit_is_not_encoded() -> None:
    with pytest.raises(FrameTooLarge, match="1048576 bytes, at most 1048575"):
        encode(FrameType.STDOUT, bytes(1 << 20))
    with pytest.raises(FrameTooLarge):
        frames.header(FrameType.STDOUT, 1 << 20)


def test_the_largest_payload_goes_through() -> None:
    payload = b"\xa5" * MAX_PAYLOAD
    assert parse_all(encode(FrameType.STDOUT, payload)) == [(FrameType.STDOUT, payload)]


def test_a_header_that_announces_two_mebibytes_is_refused_before_any_payload_comes() -> None:
    parser = FrameParser()
    parser.feed(struct.pack(">IB", 2 << 20, FrameType.STDOUT))
    with pytest.raises(FrameTooLarge, match="2097152"):
        parser.frames()


def test_a_length_of_zero_is_refused_as_soon_as_it_is_seen() -> None:
    parser = FrameParser()
    parser.feed(bytes(4))
    with pytest.raises(EmptyFrame):
        parser.frames()


def test_good_frames_before_a_broken_one_are_handed_out_first() -> None:
    parser = FrameParser()
    parser.feed(encode(FrameType.STDOUT, b"good") + bytes(8))
    assert parser.frames() == [(FrameType.STDOUT, b"good")]
    with pytest.raises(EmptyFrame):
        parser.frames()
    parser.feed(encode(FrameType.STDOUT, b"too late"))
    with pytest.raises(EmptyFrame):
        parser.frames()


def test_the_limit_is_the_callers_to_choose() -> None:
    parser = FrameParser(max_length=3)
    parser.feed(encode(FrameType.STDOUT, b"ab", max_length=3))
    assert parser.frames() == [(FrameType.STDOUT, b"ab")]
    parser.feed(encode(FrameType.STDOUT, b"abc"))
    with pytest.raises(FrameTooLarge):
        parser.frames()


class TestTryParse:
    def test_three_bytes_are_too_few(self) -> None:
        assert try_parse(b"\0\0\0") is None

    def test_a_complete_frame_gives_type_start_and_total(self) -> None:
        assert try_parse(encode(FrameType.STDIN, b"x")) == (FrameType.STDIN, 5, 6)

    def test_trailing_bytes_are_ignored(self) -> None:
        assert try_parse(encode(FrameType.STDIN, b"x") + b"tail") == (FrameType.STDIN, 5, 6)

    def test_an_incomplete_payload_is_not_a_frame(self) -> None:
        assert try_parse(encode(FrameType.STDIN, b"hello")[:-1]) is None

    @pytest.mark.parametrize("length", [0, (1 << 20) + 1, 0xFFFFFFFF])
    def test_an_impossible_length_is_not_a_frame(self, length: int) -> None:
        assert try_parse(struct.pack(">IB", length, 1) + bytes(16)) is None

    def test_it_reads_any_buffer(self) -> None:
        frame = encode(FrameType.STDIN, b"x")
        assert try_parse(memoryview(frame)) == try_parse(bytearray(frame)) == try_parse(frame)


@pytest.mark.parametrize("size", [(24, 80), (0, 0), (0xFFFF, 0xFFFF)])
def test_a_resize_survives_the_round_trip(size: tuple[int, int]) -> None:
    assert frames.parse_resize(frames.encode_resize(*size)) == size


@pytest.mark.parametrize("code", [0, 1, -1, 127, 137, 143])
def test_an_exit_code_survives_the_round_trip(code: int) -> None:
    assert frames.encode_exit(code) == code.to_bytes(4, "big", signed=True)
    assert frames.parse_exit(frames.encode_exit(code)) == (code, b"")


def test_an_exit_can_say_more_after_its_code() -> None:
    payload = frames.encode_exit(137, b'{"reason":"oom"}')
    assert payload[:4] == frames.encode_exit(137), "who knows four bytes only reads the same code"
    assert frames.parse_exit(payload) == (137, b'{"reason":"oom"}')


@pytest.mark.parametrize("short", [b"", b"\0", b"\0\0\0"])
def test_payloads_that_are_too_short_are_not_parsed(short: bytes) -> None:
    assert frames.parse_resize(short) is None
    assert frames.parse_exit(short) is None


@pytest.mark.parametrize("kind", list(FrameType))
def test_every_type_survives_the_round_trip(kind: FrameType) -> None:
    (parsed, payload) = parse_all(encode(kind, b"payload"))[0]
    assert FrameType(parsed) is kind
    assert payload == b"payload"


def test_an_unknown_type_is_a_frame_all_the_same() -> None:
    assert parse_all(encode(0xEE, b"?")) == [(0xEE, b"?")]


def test_the_refusal_of_an_unknown_type_is_recognised() -> None:
    assert frames.unexpected(0x70) == "unexpected frame type 0x70"
    assert frames.is_unexpected(frames.unexpected(0x0A), 0x0A)
    assert not frames.is_unexpected(frames.unexpected(0x11), FrameType.HELLO_REQ)
    assert not frames.is_unexpected("session not found", FrameType.HELLO_REQ)


def test_an_empty_payload_is_encoded_as_no_payload() -> None:
    assert encode(FrameType.KILL) == encode(FrameType.KILL, b"") == b"\0\0\0\x01\x07"


@pytest.mark.parametrize("message", [b"{}", bytearray(b"{}"), memoryview(b"{}")], ids=["bytes", "bytearray", "view"])
def test_any_buffer_can_be_sent_and_fed(message: bytes | bytearray | memoryview) -> None:
    wire = encode(FrameType.EXEC_REQ, message)
    parser = FrameParser()
    parser.feed(memoryview(bytearray(wire)))
    assert parser.frames() == [(FrameType.EXEC_REQ, b"{}")]


def test_a_buffer_may_be_reused_once_frames_was_called() -> None:
    parser = FrameParser()
    wire = encode(FrameType.STDOUT, b"one") + encode(FrameType.STDOUT, b"two")
    shared = bytearray(3)
    seen = []
    for start in range(0, len(wire), len(shared)):
        part = wire[start : start + len(shared)]
        shared[: len(part)] = part
        parser.feed(memoryview(shared)[: len(part)])
        seen += parser.frames()
    assert seen == [(FrameType.STDOUT, b"one"), (FrameType.STDOUT, b"two")]


def test_buffered_counts_what_is_not_handed_out_yet() -> None:
    parser = FrameParser()
    parser.feed(encode(FrameType.STDOUT, b"whole") + b"\0\0")
    assert parser.frames() == [(FrameType.STDOUT, b"whole")]
    assert parser.buffered == 2


class TestPieces:
    """With `pieces`, the frames of a stream's content come out as they arrive."""

    def test_a_part_of_a_data_frame_comes_out_at_once(self) -> None:
        parser = FrameParser(pieces=True)
        parser.feed(encode(FrameType.STDOUT, b"hello")[:8])
        assert parser.frames() == [(FrameType.STDOUT, b"hel")]
        assert parser.frames() == []
        assert parser.inside
        assert parser.buffered == 0
        parser.feed(b"lo" + encode(FrameType.EXIT, frames.encode_exit(0)))
        assert parser.frames() == [(FrameType.STDOUT, b"lo"), (FrameType.EXIT, frames.encode_exit(0))]

    def test_other_frames_stay_whole(self) -> None:
        parser = FrameParser(pieces=True)
        parser.feed(encode(FrameType.SESSION_INFO, b"{}")[:-1])
        assert parser.frames() == []
        parser.feed(b"}")
        assert parser.frames() == [(FrameType.SESSION_INFO, b"{}")]

    def test_an_empty_frame_is_handed_out_and_no_empty_piece_is(self) -> None:
        parser = FrameParser(pieces=True)
        wire = encode(FrameType.STDIN, b"x") + encode(FrameType.STDIN)
        seen = []
        for index in range(len(wire)):
            parser.feed(wire[index : index + 1])
            seen += parser.frames()
        assert seen == [(FrameType.STDIN, b"x"), (FrameType.STDIN, b"")]

    def test_an_end_inside_a_frame_is_still_an_error(self) -> None:
        parser = FrameParser(pieces=True)
        parser.feed(encode(FrameType.STDOUT, b"hello")[:-1])
        assert parser.frames() == [(FrameType.STDOUT, b"hell")]
        with pytest.raises(UnexpectedEOF):
            parser.feed_eof()


def test_two_writers_behind_a_lock_do_not_mix_their_frames() -> None:
    host, guest = socket.socketpair()
    lock = threading.Lock()

    def write(mark: int) -> None:
        for number in range(1000):
            with lock:
                host.sendall(encode(FrameType.STDOUT, bytes([mark]) * (number % 100 + 1)))

    writers = [threading.Thread(target=write, args=(mark,)) for mark in (1, 2)]
    parser = FrameParser()
    seen: list[tuple[int, bytes]] = []
    with host, guest:
        for writer in writers:
            writer.start()
        while len(seen) < 2000:
            parser.feed(guest.recv(65536))
            seen += parser.frames()
        for writer in writers:
            writer.join()
    assert parser.buffered == 0
    for mark in (1, 2):
        assert [len(payload) for _, payload in seen if payload[0] == mark] == [n % 100 + 1 for n in range(1000)]
    assert all(payload == payload[:1] * len(payload) for _, payload in seen)


@pytest.fixture
def pipe() -> Iterator[tuple[socket.socket, socket.socket]]:
    host, guest = socket.socketpair()
    with host, guest:
        yield host, guest


def receive(end: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Read exactly `count` frames."""
    parser = FrameParser()
    seen: list[tuple[int, bytes]] = []
    while len(seen) < count:
        data = end.recv(65536)
        assert data, "the stream ended early"
        parser.feed(data)
        seen += parser.frames()
    return seen


def test_a_whole_exec_goes_over_a_real_stream(pipe: tuple[socket.socket, socket.socket]) -> None:
    host, guest = pipe
    request = ExecRequest(argv=("cat", "-n"), env={"A": "1"})
    host.sendall(encode(FrameType.EXEC_REQ, request.to_json()))
    host.sendall(encode(FrameType.STDIN, b"line\n"))
    (kind, payload), stdin = receive(guest, 2)
    assert kind == FrameType.EXEC_REQ
    assert ExecRequest.from_json(payload) == request
    assert stdin == (FrameType.STDIN, b"line\n")
    guest.sendall(encode(FrameType.EXIT, frames.encode_exit(42)))
    assert receive(host, 1) == [(FrameType.EXIT, frames.encode_exit(42))]


def test_both_sides_can_send_at_the_same_time(pipe: tuple[socket.socket, socket.socket]) -> None:
    ends = dict(zip(("host", "guest"), pipe, strict=True))
    seen: dict[str, list[tuple[int, bytes]]] = {}
    big = {name: encode(FrameType.STDIN, name.encode() * 20_000) * 20 for name in ends}

    def read(name: str) -> None:
        seen[name] = receive(ends[name], 20)

    def write(name: str) -> None:
        ends[name].sendall(big[name])

    threads = [threading.Thread(target=work, args=(name,)) for name in ends for work in (read, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen["host"] == [(FrameType.STDIN, b"guest" * 20_000)] * 20
    assert seen["guest"] == [(FrameType.STDIN, b"host" * 20_000)] * 20


def test_forward_messages_survive_framing() -> None:
    wire = encode(FrameType.FWD_REQ, ForwardRequest(port=8080).to_json())
    wire += encode(FrameType.FWD_RESP, ForwardResponse(status="ok").to_json())
    wire += encode(FrameType.FWD_RESP, ForwardResponse(status="error", message="refused").to_json())
    request, accepted, refused = (payload for _, payload in parse_all(wire))
    assert ForwardRequest.from_json(request).port == 8080
    assert b"message" not in accepted
    assert ForwardResponse.from_json(refused) == ForwardResponse(status="error", message="refused")
