import socket
from contextlib import closing
from pathlib import Path

import pytest

from bhatti.daemon.listener import listening, listening_on_tcp
from bhatti.errors import Conflict, InvalidRequest, Unavailable


@pytest.fixture
def path(directory: Path) -> Path:
    return directory / "bhatti.sock"


def test_the_socket_is_for_its_owner_alone_and_answers_at_once(path: Path) -> None:
    with listening(path):
        assert path.stat().st_mode & 0o777 == 0o600
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(path))


def test_nothing_is_left_afterwards(path: Path) -> None:
    with listening(path):
        assert [found.name for found in path.parent.iterdir()] == ["bhatti.sock"]
    assert list(path.parent.iterdir()) == []


def test_what_a_dead_daemon_left_is_replaced(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))
    with listening(path), closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(path))


def test_a_living_socket_is_left_alone(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(Conflict) as caught, listening(path):
            pass
        assert caught.value.code == "socket-taken"
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(path))


def test_a_living_socket_with_a_full_backlog_is_left_alone_too(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as other, closing(socket.socket(socket.AF_UNIX)) as waiting:
        other.bind(str(path))
        other.listen(0)
        waiting.connect(str(path))
        with pytest.raises(Conflict), listening(path):
            pass
        assert path.exists()


def test_a_file_in_the_way_is_not_removed(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(Conflict, match="not a socket") as caught, listening(path):
        pass
    assert caught.value.code == "socket-taken"
    assert path.read_text() == "precious"


def test_a_path_that_the_kernel_cannot_take_is_refused_with_its_length(directory: Path) -> None:
    path = directory / ("x" * 100) / "bhatti.sock"
    with pytest.raises(InvalidRequest, match="the kernel takes 107") as caught, listening(path):
        pass
    assert caught.value.code == "socket-path-too-long"


def test_the_longest_path_that_the_kernel_takes_works(directory: Path) -> None:
    path = directory / "y"
    path = path / ("x" * (107 - len(str(path)) - len("//bhatti.sock") + 0)) / "bhatti.sock"
    path.parent.mkdir(parents=True)
    assert len(str(path)) in (106, 107)
    with listening(path):
        assert path.exists()


def test_another_daemons_socket_of_the_same_name_survives_our_end(path: Path) -> None:
    with listening(path):
        path.unlink()
        with closing(socket.socket(socket.AF_UNIX)) as other:
            other.bind(str(path))
    assert path.exists()


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_on_tcp_it_answers_at_once_and_the_port_is_free_afterwards(address: str) -> None:
    with listening_on_tcp(address) as listener:
        where = listener.getsockname()
        socket.create_connection(where[:2], 5).close()
        with pytest.raises(Conflict) as caught, listening_on_tcp(f"{address.rpartition(':')[0]}:{where[1]}"):
            pass
        assert caught.value.code == "address-taken"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where[:2], 5)


@pytest.mark.parametrize(
    "address", ["", "8080", ":8080", "localhost", "localhost:", "localhost:http", "h:65536", "h:-1"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest) as caught, listening_on_tcp(address):
        pass
    assert caught.value.code == "bad-setting"


@pytest.mark.parametrize("address", ["192.0.2.1:0", "nowhere.invalid:0"])
def test_an_address_of_another_machine_is_told(address: str) -> None:
    with pytest.raises(Unavailable) as caught, listening_on_tcp(address):
        pass
    assert caught.value.code == "address-unusable"
