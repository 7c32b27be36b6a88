import socket
from pathlib import Path

import pytest

from bhatti.engines.unix_socket import open_socket


def test_paths_may_be_longer_than_the_kernel_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        monkeypatch.chdir(directory)
        listener.bind("here")
        listener.listen()
        with open_socket(directory / "here") as connection:
            assert connection.getblocking() is False
            assert connection.getpeername() == "here"


def test_without_anybody_it_is_an_error_and_nothing_stays_open(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_socket(tmp_path / "nobody")
    with pytest.raises(FileNotFoundError):
        open_socket(tmp_path / "no" / "directory")
