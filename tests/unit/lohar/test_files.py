import json
import os
from pathlib import Path

import pytest
from tests.unit.lohar.serving import Client

from lohar.failures import RequestError
from lohar.files import describe, encode_entry, stat_file
from lohar.wire.frames import FrameType
from lohar.wire.messages import FileInfo


@pytest.mark.parametrize("name", ["plain", "with space", 'quote" and \\', "日本語 (1)", "\x01control"])
def test_an_entry_by_hand_is_what_the_message_says(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"1234567")
    folder = os.open(tmp_path, os.O_RDONLY)
    entry = encode_entry(name, folder)
    assert entry is not None
    assert json.loads(entry) == json.loads(describe(name, (tmp_path / name).stat()).to_json())
    assert FileInfo.from_json(entry.encode()).name == name
    assert encode_entry("gone", folder) is None
    os.close(folder)


def test_stat_follows_a_link_and_names_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"12345")
    (tmp_path / "target").chmod(0o640)
    (tmp_path / "link").symlink_to("target")
    info = stat_file(str(tmp_path / "link"))
    assert (info.name, info.size, info.mode, info.is_dir) == ("link", 5, "0640", False)
    assert stat_file("/").name == "/"
    assert stat_file(f"{tmp_path}/").is_dir
    with pytest.raises(RequestError, match="stat /nonexistent: no such file"):
        stat_file("/nonexistent")


def listing(client: Client, path: Path, **options: object) -> list[dict[str, object]]:
    client.send(FrameType.FILE_LS_REQ, path=str(path), **options)
    found: list[dict[str, object]] = []
    while True:
        kind, payload = client.receive()
        if kind == FrameType.EXIT:
            return found
        assert kind == FrameType.FILE_LS_RESP, payload
        found += json.loads(payload)
        if not options:
            return found


def test_a_directory_is_listed_in_order_links_as_they_are(client: Client, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "c").write_bytes(b"xyz")
    (tmp_path / "a").symlink_to("/nonexistent")
    assert [(entry["name"], entry["is_dir"]) for entry in listing(client, tmp_path)] == [
        ("a", False),
        ("b", True),
        ("c", False),
    ]


def test_an_empty_directory_is_an_empty_list(client: Client, tmp_path: Path) -> None:
    assert listing(client, tmp_path) == []
    assert listing(client, tmp_path, chunked=True) == []


def test_a_large_one_is_cut_off_and_says_so_unless_it_comes_in_pieces(client: Client, tmp_path: Path) -> None:
    agent = client._serving.agent
    agent.limits = agent.limits.replace(list_entries=5, frame_length=6000)
    names = [f"{number:03}-{'x' * 200}" for number in range(40)]
    for name in names:
        (tmp_path / name).touch()
    cut = listing(client, tmp_path)
    assert [entry["name"] for entry in cut] == [*names[:5], "... truncated at 5 entries (40 total)"]
    assert [entry["name"] for entry in listing(client, tmp_path, chunked=True)] == names


@pytest.mark.parametrize(("path", "words"), [("/etc/passwd", "is not a directory"), ("/nonexistent", "no such file")])
def test_what_cannot_be_listed_says_why(client: Client, path: str, words: str) -> None:
    client.send(FrameType.FILE_LS_REQ, path=path)
    assert words in client.error()
