"""Whatever frames are sent, and however the stream is chunked, the same frames come out."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lohar.wire import frames
from lohar.wire.frames import FrameError, FrameParser, encode, try_parse

any_frames = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=20)


@given(sequence=any_frames, cuts=st.lists(st.integers(0, 6000), max_size=30))
def test_frames_come_out_the_same_however_the_stream_was_chunked(
    sequence: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    wire = frames.encode_all(sequence)
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    parser = FrameParser()
    seen: list[tuple[int, bytes]] = []
    for start, end in pairwise(edges):
        parser.feed(wire[start:end])
        seen += parser.frames()
    parser.feed_eof()
    assert seen == sequence


def joined(sequence: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """String the payloads of neighbouring data frames together; an empty one stands for itself."""
    result: list[tuple[int, bytes]] = []
    for kind, payload in sequence:
        if result and kind in frames.DATA_TYPES and result[-1][0] == kind and payload and result[-1][1]:
            result[-1] = (kind, result[-1][1] + payload)
        else:
            result.append((kind, payload))
    return result


@given(sequence=any_frames, cuts=st.lists(st.integers(0, 6000), max_size=30), bulk=st.sampled_from([8, frames.BULK]))
def test_pieces_string_together_to_the_same_frames(
    sequence: list[tuple[int, bytes]], cuts: list[int], bulk: int
) -> None:
    wire = frames.encode_all(sequence)
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    parser = FrameParser(pieces=True)
    shared = bytearray(len(wire))
    seen: list[tuple[int, bytes]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "BULK", bulk)  # so that short random streams take the way of the long ones as well
        for start, end in pairwise(edges):
            shared[: end - start] = wire[start:end]
            parser.feed(memoryview(shared)[: end - start])
            seen += parser.frames()
    parser.feed_eof()
    assert joined(seen) == joined(sequence)


@given(sequence=any_frames)
def test_feeding_everything_before_asking_gives_the_same(sequence: list[tuple[int, bytes]]) -> None:
    parser = FrameParser()
    for kind, payload in sequence:
        parser.feed(encode(kind, payload))
    assert parser.frames() == sequence


@given(data=st.binary(max_size=200))
def test_parser_and_try_parse_agree_about_the_first_frame(data: bytes) -> None:
    parser = FrameParser()
    parser.feed(data)
    found = try_parse(data)
    try:
        seen = parser.frames()
    except FrameError:
        assert found is None
        return
    if found is None:
        assert seen == []
    else:
        kind, start, total = found
        assert seen[0] == (kind, data[start:total])
