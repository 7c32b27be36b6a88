import os
import socket
from pathlib import Path

import pytest
from tests.unit.lohar.serving import Client, Serving

from lohar.upload import make_parents, parse_mode
from lohar.wire.frames import FrameType


def write(client: Client, path: Path | str, data: bytes, *, size: int | None = None, mode: str = "0644") -> None:
    client.send(FrameType.FILE_WRITE_REQ, path=str(path), mode=mode, size=len(data) if size is None else size)
    if data:
        client.send(FrameType.STDIN, data)


@pytest.mark.parametrize(
    ("text", "mode"),
    [("0600", 0o600), ("755", 0o755), ("4755", 0o755), ("", 0o644), ("rw", 0o644), ("-1", 0o644), ("77777", 0o644)],
)
def test_modes_are_octal_text_and_nonsense_is_the_usual(text: str, mode: int) -> None:
    assert parse_mode(text) == mode


def test_a_file_is_written_with_its_mode_and_its_parents(client: Client, tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file"
    write(client, target, b"content", mode="0600")
    assert client.json(FrameType.FILE_WRITE_RESP) == {"status": "ok"}
    assert target.read_bytes() == b"content"
    assert target.stat().st_mode & 0o7777 == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["file"], "nothing temporary is left"


def test_an_empty_file_needs_no_content(client: Client, tmp_path: Path) -> None:
    write(client, tmp_path / "empty", b"")
    client.expect(FrameType.FILE_WRITE_RESP)
    assert (tmp_path / "empty").read_bytes() == b""


def test_what_is_beyond_the_announced_size_is_dropped(client: Client, tmp_path: Path) -> None:
    write(client, tmp_path / "file", b"abcdef", size=3)
    client.expect(FrameType.FILE_WRITE_RESP)
    assert (tmp_path / "file").read_bytes() == b"abc"


@pytest.mark.parametrize(
    ("path", "size", "words"),
    [
        ("/tmp/file", -1, "file size must be >= 0"),
        ("/tmp/file", 1 << 62, "file too large"),
        ("/tmp", 1, "is a directory"),
        ("/etc/passwd/file", 1, "not a directory"),
        ("/tmp/" + "x" * 300, 1, "file name too long"),
    ],
)
def test_what_cannot_be_written_is_refused_before_its_content(client: Client, path: str, size: int, words: str) -> None:
    write(client, path, b"", size=size)
    assert words in client.error()


def test_an_upload_that_breaks_off_leaves_the_old_file(serving: Serving, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    client = serving.connect()
    write(client, target, b"new", size=10)
    serving.turn_until(lambda: len(list(tmp_path.iterdir())) == 2)
    client.sock.close()
    serving.turn_until(lambda: len(list(tmp_path.iterdir())) == 1)
    assert target.read_bytes() == b"old"


def test_a_half_closed_upload_says_how_far_it_came(serving: Serving, tmp_path: Path) -> None:
    client = serving.connect()
    write(client, tmp_path / "file", b"new", size=10)
    client.sock.shutdown(socket.SHUT_WR)
    assert client.error() == "connection lost after 3/10 bytes"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")
def test_parents_that_are_made_belong_to_the_owner(tmp_path: Path) -> None:
    make_parents(str(tmp_path / "x" / "y" / "file"), (1234, 1234))
    assert (tmp_path / "x").stat().st_uid == (tmp_path / "x" / "y").stat().st_uid == 1234
    assert tmp_path.stat().st_uid == 0
