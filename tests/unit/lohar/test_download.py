import os
from pathlib import Path

import pytest
from tests.unit.lohar.serving import Client

from lohar.download import LONG_LINE, LineCutter, open_regular
from lohar.failures import RequestError
from lohar.wire.frames import FrameType


def cut(data: bytes, *, offset: int = 0, limit: int = 0, max_bytes: int = 0, block: int = 7) -> bytes:
    cutter = LineCutter(offset, limit, max_bytes)
    pieces: list[bytes] = []
    for start in range(0, len(data), block):
        if cutter.done:
            break
        pieces += cutter.feed(data[start : start + block])
    return b"".join(pieces + cutter.end())


LINES = b"".join(b"line %d\n" % number for number in range(1, 21))


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"limit": 2}, b"line 1\nline 2\n"),
        ({"offset": 19}, b"line 19\nline 20\n"),
        ({"offset": 5, "limit": 1}, b"line 5\n"),
        ({"offset": 21}, b""),
        ({"offset": 1000}, b""),
        ({"max_bytes": 10}, b"line 1\nlin"),
        ({"limit": 1, "max_bytes": 1000}, b"line 1\n"),
        ({"limit": 1000, "max_bytes": 7}, b"line 1\n"),
        ({"offset": -3, "limit": -1, "max_bytes": -1}, LINES),
    ],
)
def test_lines_are_cut_the_same_however_the_file_is_read(options: dict[str, int], expected: bytes, block: int) -> None:
    assert cut(LINES, block=block, **options) == expected


def test_the_last_line_gets_its_end_and_carriage_returns_go() -> None:
    assert cut(b"a\r\nb\rc\r\nd", limit=9) == b"a\nb\rc\nd\n"
    assert cut(b"", limit=1) == b""


def test_a_line_of_any_length_is_handed_out() -> None:
    line = os.urandom(2 * LONG_LINE + 17).replace(b"\n", b" ").replace(b"\r", b" ")
    assert cut(line + b"\nnext\n", limit=1, block=100_000) == line + b"\n"
    assert cut(line + b"\nnext\n", offset=2, limit=1, block=100_000) == b"next\n"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nonexistent", "open /nonexistent: no such file"),
        ("/", "is a directory"),
        ("/dev/null", "is not a regular file"),
    ],
)
def test_only_regular_files_are_opened(path: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        open_regular(path)


@pytest.mark.parametrize("size", [0, 1, 32 << 10, (32 << 10) + 1, 3 << 20])
def test_a_file_comes_whole_with_its_size_before(client: Client, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "file").chmod(0o640)
    client.send(FrameType.FILE_READ_REQ, path=str(tmp_path / "file"))
    assert client.json(FrameType.FILE_READ_RESP) == {"size": size, "mode": "0640"}
    assert client.output() == (data, b"", 0)


def test_a_file_that_reports_no_size_is_read_to_its_end(client: Client) -> None:
    client.send(FrameType.FILE_READ_REQ, path="/proc/self/status")
    client.expect(FrameType.FILE_READ_RESP)
    assert client.output()[0].startswith(b"Name:")


def test_some_lines_come_through_a_connection(client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LINES)
    client.send(FrameType.FILE_READ_REQ, path=str(tmp_path / "file"), offset=3, limit=2)
    assert client.json(FrameType.FILE_READ_RESP)["size"] == len(LINES)
    assert client.output() == (b"line 3\nline 4\n", b"", 0)


def test_a_client_that_leaves_in_the_middle_leaves_nothing_open(client: Client, tmp_path: Path) -> None:
    serving = client._serving
    (tmp_path / "file").write_bytes(bytes(32 << 20))
    other = serving.connect()
    other.send(FrameType.FILE_READ_REQ, path=str(tmp_path / "file"))
    other.expect(FrameType.FILE_READ_RESP)
    other.sock.close()
    serving.turn_until(lambda: len(serving.agent.connections) == 1)
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert tmp_path / "file" not in links
