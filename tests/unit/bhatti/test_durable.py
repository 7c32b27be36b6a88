import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bhatti.durable import sync_directory, sync_file, write_durably


def test_a_durable_write_replaces_or_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_durably(path, b"one")
    write_durably(path, b"two")
    assert path.read_bytes() == b"two"
    (tmp_path / "directory/inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_durably(tmp_path / "directory", b"three")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["directory", "record.json"]


def test_two_threads_that_write_one_file_leave_it_whole(tmp_path: Path) -> None:
    path, contents = tmp_path / "record.json", [b"short", bytes(1 << 20)]
    begin = threading.Barrier(2)

    def write(content: bytes) -> None:
        begin.wait()
        for _ in range(10):
            write_durably(path, content)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, contents))
    assert path.read_bytes() in contents
    assert [found.name for found in tmp_path.iterdir()] == ["record.json"]


def test_a_file_is_created_with_its_mode(tmp_path: Path) -> None:
    write_durably(tmp_path / "key", b"secret", mode=0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_what_is_synced_must_be_there_and_what_it_is_taken_for(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        sync_file(file)
    file.write_bytes(b"x")
    sync_file(file)
    sync_directory(tmp_path)
    with pytest.raises(NotADirectoryError):
        sync_directory(file)
