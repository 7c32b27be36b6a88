import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.daemons import Daemon
from tests.serving import short_directory

from bhatti.daemon.lifetime import KEEPALIVE_S
from bhatti.errors import Unavailable
from bhatti.sdk.connection import IDLE_S, Connection
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.websocket import handshake

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def server(*talks: Callable[[socket.socket], None], family: int = socket.AF_UNIX) -> Iterator[Endpoint]:
    """A server that has one of `talks` with each connection, in order."""
    with short_directory() as directory, socket.socket(family) as listener:
        path = str(directory / "s")
        listener.bind(path if family == socket.AF_UNIX else ("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            for talk in talks:
                connection, _ = listener.accept()
                with connection:
                    talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        if family == socket.AF_UNIX:
            yield Endpoint(path=path)
        else:
            yield Endpoint(host="127.0.0.1", port=listener.getsockname()[1])
        thread.join(10)


def says(*answers: bytes) -> Callable[[socket.socket], None]:
    """Answer so many requests, then close."""

    def talk(connection: socket.socket) -> None:
        for answer in answers:
            connection.recv(65_536)
            connection.sendall(answer)

    return talk


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_a_connection_is_kept_and_used_again(family: int) -> None:
    with server(says(OK, OK), family=family) as endpoint:
        connection = Connection(endpoint)
        for _ in range(2):
            assert connection.request("GET", "/").read() == b"ok"
        connection.close()


def test_a_connection_that_the_daemon_closed_meanwhile_is_opened_again() -> None:
    with server(says(OK), says(OK)) as endpoint:
        connection = Connection(endpoint)
        for _ in range(2):
            assert connection.request("GET", "/").read() == b"ok"
        connection.close()


def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bhatti.sdk.connection.IDLE_S", 0.0)
    with server(says(OK), says(OK)) as endpoint:
        connection = Connection(endpoint)
        for _ in range(2):
            assert connection.request("POST", "/", body=b"create something").read() == b"ok"
        connection.close()


def test_the_daemon_keeps_a_connection_for_longer_than_we_use_it() -> None:
    assert IDLE_S < KEEPALIVE_S


def test_a_request_with_a_body_is_not_sent_twice() -> None:
    with server(says(OK, b"")) as endpoint:  # the second request is read, and not answered
        connection = Connection(endpoint)
        assert connection.request("GET", "/").read() == b"ok"
        with pytest.raises(Unavailable) as caught:
            connection.request("POST", "/", body=b"create something")
        assert caught.value.code == "connection-lost"


def test_a_server_that_says_close_is_not_asked_again_on_that_connection() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    with server(says(closing), says(OK)) as endpoint:
        connection = Connection(endpoint)
        assert connection.request("GET", "/").read() == b"ok"
        assert connection._socket is None
        assert connection.request("POST", "/", body=b"x").read() == b"ok"
        connection.close()


def test_nobody_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no daemon is running") as caught:
        Connection(Endpoint(path=str(tmp_path / "s"))).request("GET", "/")
    assert caught.value.code == "daemon-not-running"
    assert (caught.value.hint or "").startswith("start one: `bhatti serve`; ")


def test_nobody_at_an_address_of_another_machine_is_no_reason_to_start_one_here() -> None:
    with socket.socket() as nobody:  # bound and not listening: the port is nobody else's meanwhile
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="no daemon is running at http://127") as caught:
            Connection(Endpoint(host="127.0.0.1", port=nobody.getsockname()[1])).request("GET", "/")
    assert caught.value.code == "daemon-not-running"
    assert (caught.value.hint or "").startswith("is the address right")


def test_a_dead_daemons_socket_is_nobody_too() -> None:
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / "s"))
        with pytest.raises(Unavailable) as caught:
            Connection(Endpoint(path=str(directory / "s"))).request("GET", "/")
    assert caught.value.code == "daemon-not-running"


def test_somebody_elses_socket_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Connection) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Connection, "_connect", refuse)
    with pytest.raises(Unavailable) as caught:
        Connection(Endpoint(path="/x")).request("GET", "/")
    assert caught.value.code == "daemon-not-yours"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"nonsense\r\n\r\n"])
def test_no_answer_is_a_lost_connection(answer: bytes) -> None:
    with server(says(answer)) as endpoint, pytest.raises(Unavailable) as caught:
        Connection(endpoint).request("GET", "/")
    assert caught.value.code == "connection-lost"


def test_an_answer_that_breaks_off_is_a_lost_connection() -> None:
    with server(says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")) as endpoint:
        response = Connection(endpoint).request("GET", "/")
        with pytest.raises(Unavailable) as caught:
            response.read()
    assert caught.value.code == "connection-lost"


def test_a_daemon_that_is_silent_for_too_long_is_lost() -> None:
    release = threading.Event()

    def silent(connection: socket.socket) -> None:
        release.wait(60)

    with server(silent) as endpoint:
        with pytest.raises(Unavailable):
            Connection(endpoint, timeout_s=0.05).request("GET", "/")
        release.set()


def test_a_body_without_a_length_goes_in_chunks(served: Daemon, tmp_path: Path) -> None:
    connection = Connection(served.endpoint)
    target = f"/sandboxes/one/files?path={tmp_path}/file"
    assert connection.request("PUT", target, body=iter([b"one ", b"", b"two"])).head.status == 200
    assert (tmp_path / "file").read_bytes() == b"one two"
    headers = [("Content-Length", "5")]
    assert connection.request("PUT", target, headers=headers, body=iter([b"three"])).read()
    assert (tmp_path / "file").read_bytes() == b"three"
    connection.close()


def test_an_upload_that_the_daemon_refuses_early_is_told_why() -> None:
    refusal = b"HTTP/1.1 400 Bad\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    with server(says(refusal)) as endpoint:
        response = Connection(endpoint).request("PUT", "/", body=(b"x" * 100_000 for _ in range(100)))
        assert (response.head.status, response.read()) == (400, b"no")


def test_an_upgrade_hands_the_socket_over(served: Daemon) -> None:
    taken = Connection(served.endpoint).upgrade("/sandboxes/one/exec/ws", handshake())
    assert isinstance(taken, tuple)
    taken[0].close()


def test_an_upgrade_that_is_declined_is_an_answer(served: Daemon) -> None:
    connection = Connection(served.endpoint)
    response = connection.upgrade("/sandboxes/nobody/exec/ws", handshake())
    assert not isinstance(response, tuple)
    assert response.head.status == 404
    assert b"sandbox-not-found" in response.read()
    connection.close()
