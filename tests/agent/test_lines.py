"""Parts of files, by lines and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lohar.wire.frames import FrameType

if TYPE_CHECKING:
    from tests.agent.agents import Agent
    from tests.agent.client import Connection


def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(first, last + 1))


@pytest.fixture
def hundred(agent: Agent) -> str:
    """A file of a hundred lines."""
    agent.sh(f"seq -f 'line %g' 1 100 > {agent.path('hundred')}")
    return agent.path("hundred")


def read(connection: Connection, path: str, **options: int) -> bytes:
    return connection.read_file(path, **options)[1]


def test_a_limit_cuts_after_so_many_lines(connection: Connection, hundred: str) -> None:
    assert read(connection, hundred, limit=10) == lines(1, 10)


def test_an_offset_counts_lines_from_one(connection: Connection, hundred: str) -> None:
    assert read(connection, hundred, offset=50) == lines(50, 100)
    assert read(connection, hundred, offset=1, limit=2) == lines(1, 2)


def test_offset_and_limit_together(connection: Connection, hundred: str) -> None:
    assert read(connection, hundred, offset=50, limit=10) == lines(50, 59)


def test_a_byte_limit_cuts_exactly(connection: Connection, hundred: str) -> None:
    assert read(connection, hundred, max_bytes=50) == lines(1, 100)[:50]
    assert read(connection, hundred, max_bytes=10) == b"line 1\nlin"
    assert read(connection, hundred, max_bytes=7) == b"line 1\n"
    assert read(connection, hundred, offset=3, max_bytes=8) == b"line 3\nl"


def test_the_first_limit_that_is_reached_counts(connection: Connection, hundred: str) -> None:
    assert read(connection, hundred, limit=2000, max_bytes=50) == lines(1, 100)[:50]
    assert read(connection, hundred, limit=3, max_bytes=50_000) == lines(1, 3)


def test_zero_and_negative_numbers_mean_nothing(connection: Connection, hundred: str) -> None:
    assert read(connection, hundred, limit=0, offset=0, max_bytes=0) == lines(1, 100)
    assert read(connection, hundred, limit=-1, offset=-5, max_bytes=-9) == lines(1, 100)
    assert read(connection, hundred, limit=2, offset=-5) == lines(1, 2)


def test_an_offset_beyond_the_end_reads_nothing(connection: Connection, hundred: str) -> None:
    assert read(connection, hundred, offset=101) == b""
    assert read(connection, hundred, offset=1_000_000) == b""


def test_the_size_is_that_of_the_whole_file(connection: Connection, hundred: str) -> None:
    answer, content = connection.read_file(hundred, limit=1)
    assert answer["size"] == len(lines(1, 100))
    assert content == b"line 1\n"


def test_every_line_is_a_frame(connection: Connection, hundred: str) -> None:
    connection.send_json(FrameType.FILE_READ_REQ, path=hundred, limit=3)
    connection.expect(FrameType.FILE_READ_RESP)
    assert [connection.expect(FrameType.STDOUT) for _ in range(3)] == [b"line 1\n", b"line 2\n", b"line 3\n"]
    assert connection.expect(FrameType.EXIT) == bytes(4)


def test_a_large_file_is_cut_early(agent: Agent, connection: Connection) -> None:
    agent.sh(f"seq -f 'line %g' 1 100000 > {agent.path('large')}")
    assert read(connection, agent.path("large"), limit=2000) == lines(1, 2000)
    assert read(connection, agent.path("large"), offset=99_999) == lines(99_999, 100_000)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b""),
        (b"\n", b"\n"),
        (b"no end", b"no end\n"),
        (b"one\ntwo", b"one\ntwo\n"),
        (b"dos\r\nline\r\n", b"dos\nline\n"),
        (b"lone\rcr\n", b"lone\rcr\n"),
        (b"last cr\r", b"last cr\n"),
        (b"two\r\r\n", b"two\r\n"),
        (b"\n\n\n", b"\n\n\n"),
        (b"\0binary\xff\n", b"\0binary\xff\n"),
    ],
)
def test_line_ends_are_made_the_same(agent: Agent, connection: Connection, content: bytes, expected: bytes) -> None:
    connection.write_file(agent.path("file"), content)
    assert read(connection, agent.path("file"), offset=1) == expected


@pytest.mark.parametrize("size", [131_071, 131_072, 262_144, 262_145, 3_000_000])
def test_lines_may_have_any_length(agent: Agent, connection: Connection, size: int) -> None:
    connection.write_file(agent.path("file"), b"first\n" + b"x" * size + b"\r\nlast")
    assert read(connection, agent.path("file"), offset=1) == b"first\n" + b"x" * size + b"\nlast\n"
    assert read(connection, agent.path("file"), offset=2, limit=1) == b"x" * size + b"\n"
    assert read(connection, agent.path("file"), offset=3) == b"last\n"
    assert read(connection, agent.path("file"), offset=2, max_bytes=size - 1) == b"x" * (size - 1)


def test_a_directory_has_no_lines(agent: Agent, connection: Connection) -> None:
    assert "is a directory" in connection.ask_error(FrameType.FILE_READ_REQ, path=agent.directory, limit=1)
    assert "no such file" in connection.ask_error(FrameType.FILE_READ_REQ, path=agent.path("missing"), limit=1)
