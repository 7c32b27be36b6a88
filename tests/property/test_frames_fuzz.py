"""Whatever bytes arrive, the frame parser gives frames or a documented error, and never holds more than a frame."""

from hypothesis import given
from hypothesis import strategies as st

from lohar.wire.frames import FrameError, FrameParser, encode, encode_exit, parse_exit, parse_resize, try_parse

LIMIT = 64
"""A small limit, so that random lengths fall on both sides of it."""

noise = st.binary(max_size=40)
frames = st.builds(lambda kind, payload: encode(kind, payload), st.integers(0, 255), st.binary(max_size=80))
headers = st.builds(lambda length: length.to_bytes(4, "big"), st.integers(0, LIMIT + 3) | st.integers(0, 2**32 - 1))
streams = st.lists(st.one_of(noise, frames, headers), max_size=15)


@given(chunks=streams)
def test_any_stream_gives_frames_or_a_documented_error(chunks: list[bytes]) -> None:
    parser = FrameParser(max_length=LIMIT)
    fed = taken = 0
    try:
        for chunk in chunks:
            parser.feed(chunk)
            fed += len(chunk)
            for kind, payload in parser.frames():
                assert 0 <= kind <= 255
                assert len(payload) < LIMIT
                taken += 5 + len(payload)
            assert parser.buffered == fed - taken, "no byte is lost or made up"
            assert parser.buffered < 4 + LIMIT or chunk is chunks[-1] or _is_broken(parser)
        parser.feed_eof()
    except FrameError:
        assert taken <= fed


def _is_broken(parser: FrameParser) -> bool:
    """Tell whether the next call raises, as it may after good frames were handed out."""
    try:
        parser.frames()
    except FrameError:
        return True
    return False


@given(chunks=streams)
def test_a_broken_stream_stays_broken_and_holds_nothing(chunks: list[bytes]) -> None:
    parser = FrameParser(max_length=LIMIT)
    parser.feed(bytes(4))
    assert _is_broken(parser)
    for chunk in chunks:
        parser.feed(chunk)
        assert _is_broken(parser)
        assert parser.buffered == 0


@given(data=noise | frames)
def test_looking_at_any_buffer_is_safe(data: bytes) -> None:
    found = try_parse(data, max_length=LIMIT)
    if found is not None:
        kind, start, total = found
        assert encode(kind, data[start:total]) == data[:total]


@given(payload=noise)
def test_any_payload_of_resize_and_exit_is_parsed_or_not(payload: bytes) -> None:
    assert (parse_resize(payload) is None) == (parse_exit(payload) is None) == (len(payload) < 4)
    parsed = parse_exit(payload)
    if parsed is not None:
        assert encode_exit(*parsed) == payload
