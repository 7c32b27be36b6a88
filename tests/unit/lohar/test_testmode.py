import resource
import socket
from pathlib import Path

import pytest

from lohar import testmode
from lohar.testmode import listen, raise_limits, remove_stale, run


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_socket_listens_beside_its_name(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    with listen(path) as sock, socket.socket(socket.AF_UNIX) as client:
        assert names(tmp_path) == ["control.sock~"]
        Path(f"{path}~").rename(path)
        client.connect(path)
        sock.accept()[0].close()


def test_what_an_earlier_agent_left_is_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    remove_stale(path)
    listen(path).close()
    listen(path).close()
    remove_stale(f"{path}~")
    assert names(tmp_path) == []


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    with pytest.raises(testmode.TestModeError, match="is no socket"):
        remove_stale(str(precious))
    assert precious.read_text() == "data"


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(testmode.TestModeError, match=r"cannot listen on .*missing"):
        listen(str(tmp_path / "missing" / "sock"))


@pytest.mark.parametrize("environment", [{}, {"LOHAR_SOCK": "/tmp/x"}, {"LOHAR_FWD_SOCK": "/tmp/x"}])
def test_both_sockets_must_be_named(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(environment) == 1
    assert "LOHAR_SOCK and LOHAR_FWD_SOCK" in capsys.readouterr().err


def test_a_socket_that_cannot_be_made_is_an_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "missing" / "sock")
    assert run({"LOHAR_SOCK": missing, "LOHAR_FWD_SOCK": missing}) == 1
    assert "lohar: cannot listen on" in capsys.readouterr().err


def test_as_many_files_as_are_useful_may_be_open() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[1]), before[1]))
    try:
        raise_limits()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(8192, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
