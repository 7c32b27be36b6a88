"""The wire alone: frames written and parsed, messages encoded, output kept. `python -m bench.wire [--json]`."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

from bench.measure import Row, report, row, take_turns

from lohar.ring import Ring
from lohar.wire.frames import FrameParser, FrameType, encode
from lohar.wire.messages import ExecRequest, FileInfo, decode_list, encode_list

ROUNDS = 200

CHUNK = 256 << 10
"""What one read of a socket gives when there is much to read."""

SMALL_FRAMES_PER_S = 1e6
"""The rate asked for."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to measure: `work` makes `calls` calls, each of which deals with `amount` `unit`s.

    `floor` is the same number of calls of what no implementation can be faster than.
    """

    name: str
    work: Callable[[], object]
    calls: int
    amount: float = 0.0
    unit: str = ""
    floor: str = ""
    target: float | None = None


def size_name(size: int) -> str:
    """Name a number of bytes."""
    return f"{size >> 10} KiB" if size >= 1024 else f"{size} B"


def repeat(function: Callable[[], object], calls: int) -> Callable[[], None]:
    """Return a function that makes `calls` calls: one alone is too short for the clock."""

    def work() -> None:
        for _ in range(calls):
            function()

    return work


def parse(stream: bytes, *, pieces: bool = False) -> Callable[[], None]:
    """Return a function that parses a stream in the chunks that a socket gives."""
    chunks = [stream[start : start + CHUNK] for start in range(0, len(stream), CHUNK)]

    def work() -> None:
        parser = FrameParser(pieces=pieces)
        for chunk in chunks:
            parser.feed(chunk)
            parser.frames()

    return work


def frame_subjects(size: int) -> list[Subject]:
    """Copy, write and read a frame's worth of bytes."""
    payload = os.urandom(size)
    frame = encode(FrameType.STDOUT, payload)
    view = memoryview(payload)
    floor = f"copy {size_name(size)}"
    return [
        Subject(floor, repeat(lambda: bytes(view), 100), 100, size / 1e6, "MB"),
        Subject(
            f"write frame {size_name(size)}",
            repeat(lambda: encode(FrameType.STDOUT, payload), 100),
            100,
            size / 1e6,
            "MB",
            floor,
        ),
        Subject(f"read frame {size_name(size)}", repeat(parse(frame), 100), 100, size / 1e6, "MB", floor),
    ]


def stream_subjects() -> list[Subject]:
    """Parse streams of many small and of large frames."""
    small = encode(FrameType.STDOUT, bytes(16)) * 10_000
    large = encode(FrameType.STDOUT, os.urandom((1 << 20) - 1)) * 8
    return [
        Subject("parse small frames", parse(small), 10_000, 1, "frames", target=SMALL_FRAMES_PER_S),
        Subject("parse 1 MiB frames", parse(large), 8, 1.05, "MB"),
        Subject("parse 1 MiB frames in pieces", parse(large, pieces=True), 8, 1.05, "MB"),
    ]


def message_subjects() -> list[Subject]:
    """Encode and decode messages."""
    env = {f"VARIABLE_{number}": "value" * 4 for number in range(8)}
    request = ExecRequest(argv=("sh", "-c", "make -j4 test"), env=env, cwd="/workspace", exit_info=True)
    wire = request.to_json()
    entries = [FileInfo(name=f"file-{number}", size=number, mode="0644", mtime=number) for number in range(1000)]
    listing = encode_list(entries)
    return [
        Subject("encode ExecRequest", repeat(lambda: encode(FrameType.EXEC_REQ, request.to_json()), 100), 100),
        Subject("decode ExecRequest", repeat(lambda: ExecRequest.from_json(wire), 100), 100),
        Subject("encode listing of 1000", lambda: encode_list(entries), 1),
        Subject("decode listing of 1000", lambda: decode_list(FileInfo, listing), 1),
    ]


def ring_subjects() -> list[Subject]:
    """Keep a session's output."""
    ring = Ring(64 << 10)
    subjects = []
    for size in (64, 4 << 10, 32 << 10):
        data = os.urandom(size)
        work = repeat(lambda data=data: ring.write(data), 100)  # type: ignore[misc]
        subjects.append(Subject(f"ring write {size_name(size)}", work, 100, size / 1e6, "MB"))
    return subjects


def rows() -> list[Row]:
    """Measure everything."""
    subjects = [*(item for size in (1 << 10, 8 << 10, 32 << 10) for item in frame_subjects(size))]
    subjects += [*stream_subjects(), *message_subjects(), *ring_subjects()]
    seconds = asyncio.run(take_turns({item.name: item.work for item in subjects}, ROUNDS))
    result: dict[str, Row] = {}
    for item in subjects:
        result[item.name] = row(
            item.name,
            [total / item.calls for total in seconds[item.name]],
            floor=result.get(item.floor),
            target=item.target,
            amount=item.amount or None,
            rate_unit=item.unit,
        )
    return list(result.values())


if __name__ == "__main__":
    report("The wire", rows())
