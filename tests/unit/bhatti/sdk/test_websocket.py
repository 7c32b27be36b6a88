import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from bhatti.sdk.websocket import (
    BINARY,
    CLOSE,
    MAX_MESSAGE_BYTES,
    PING,
    TEXT,
    FrameReader,
    SocketViolation,
    frame,
    handshake,
)


def server_frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A frame as a server sends it, by the library that everyone uses."""
    return Frame(Opcode(opcode), payload, fin=final).serialize(mask=False)


def messages(data: bytes) -> list[tuple[int, bytes]]:
    reader = FrameReader()
    reader.feed(data)
    return list(reader.messages())


@given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), st.binary(max_size=70_000)), max_size=5), st.data())
def test_what_a_server_sends_is_understood_however_it_is_cut(
    sent: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    raw = b"".join(server_frame(opcode, payload) for opcode, payload in sent)
    reader = FrameReader()
    found = []
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        reader.feed(raw[:size])
        raw = raw[size:]
        found += list(reader.messages())
    assert found == sent


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_what_we_send_is_understood_by_a_server(size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    raw = frame(BINARY, payload)
    assert raw[1] & 0x80, "a client masks"
    stream = StreamReader()
    stream.feed_data(raw)
    with pytest.raises(StopIteration) as done:
        next(Frame.parse(stream.read_exact, mask=True))
    found = done.value.value
    assert (found.opcode, found.data, found.fin) == (Opcode.BINARY, payload, True)


def test_a_message_in_parts_comes_out_whole_with_a_ping_in_the_middle() -> None:
    raw = server_frame(BINARY, b"one ", final=False) + server_frame(PING, b"?") + server_frame(0, b"two")
    assert messages(raw) == [(PING, b"?"), (BINARY, b"one two")]


def test_a_close_is_a_message_too() -> None:
    assert messages(server_frame(CLOSE, b"\x03\xe9bye")) == [(CLOSE, b"\x03\xe9bye")]


def test_bytes_that_came_with_the_handshake_are_not_lost() -> None:
    assert list(FrameReader(server_frame(TEXT, b"hi")).messages()) == [(TEXT, b"hi")]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x82\x80\0\0\0\0",  # masked
        b"\xc2\x00",  # a reserved bit
        b"\x80\x00",  # goes on without a beginning
        b"\x02\x00\x82\x00",  # begins inside another
        b"\x09\x00",  # a ping in parts
        b"\x89\x7e\x00\x7e" + b"x" * 126,  # a ping too long
        b"\x82\x7f" + (MAX_MESSAGE_BYTES + 1).to_bytes(8, "big"),
    ],
)
def test_what_no_server_may_send_is_refused(raw: bytes) -> None:
    with pytest.raises(SocketViolation):
        messages(raw)


def test_a_message_of_parts_has_a_bound_too() -> None:
    part = server_frame(BINARY, bytes(MAX_MESSAGE_BYTES), final=False)
    with pytest.raises(SocketViolation, match="longer"):
        messages(part + server_frame(0, b"x"))


@given(st.binary(max_size=300))
def test_any_bytes_are_taken_or_refused(raw: bytes) -> None:
    try:
        found = messages(raw)
    except SocketViolation:
        return
    assert sum(len(payload) for _, payload in found) <= len(raw)


def test_the_handshake_asks_with_a_fresh_key() -> None:
    keys = {dict(handshake())["Sec-WebSocket-Key"] for _ in range(3)}
    assert len(keys) == 3
    assert all(len(base64.b64decode(key)) == 16 for key in keys)
