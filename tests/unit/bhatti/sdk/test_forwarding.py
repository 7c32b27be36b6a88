import contextlib
import json
import socket
import threading
from collections.abc import Iterator

import pytest
from tests.daemons import Daemon

from bhatti.errors import BhattiError
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.forwarding import Forward, checked_port

WAIT_S = 60


@pytest.fixture
def shouting() -> Iterator[int]:
    """A program in the sandbox that hears every caller out, at any number at once, and answers in capitals."""

    def serve(caller: socket.socket) -> None:
        with caller:
            heard = b""
            while data := caller.recv(1 << 16):
                heard += data
            caller.sendall(heard.upper())

    def accept() -> None:
        while True:
            try:
                caller, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(caller,)).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def asked(address: tuple[str, int], text: bytes) -> bytes:
    with socket.create_connection(address, WAIT_S) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        heard = b""
        while data := connection.recv(1 << 16):
            heard += data
        return heard


def test_a_port_of_the_sandbox_is_one_of_this_machine(served: Daemon, shouting: int) -> None:
    with Forward(served.endpoint, "one", shouting) as forward:
        assert (forward.address, forward.url) == (
            ("127.0.0.1", forward.local_port),
            f"http://127.0.0.1:{forward.local_port}",
        )
        assert asked(forward.address, b"hello") == b"HELLO"
        assert asked(forward.address, b"x" * (4 << 20)) == b"X" * (4 << 20)
        assert str(shouting) in repr(forward)


def test_many_talk_at_once(served: Daemon, shouting: int) -> None:
    with Forward(served.endpoint, "one", shouting) as forward:
        opened = [socket.create_connection(forward.address, WAIT_S) for _ in range(20)]
        for number, connection in enumerate(opened):
            connection.sendall(f"caller {number}".encode())
        for number, connection in reversed([*enumerate(opened)]):
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100, socket.MSG_WAITALL) == f"CALLER {number}".encode()
            connection.close()


def test_closing_ends_what_is_open_and_leaves_nothing(served: Daemon, shouting: int) -> None:
    before = threading.active_count()
    forward = Forward(served.endpoint, "one", shouting)
    with socket.create_connection(forward.address, WAIT_S) as connection:
        connection.sendall(b"still here")
        forward.close()
        forward.close()
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(forward.address, WAIT_S)
    assert len([thread for thread in threading.enumerate() if thread.daemon]) == 0
    assert threading.active_count() <= before + 1  # the shouting one may yet be about to hear of it


@pytest.mark.parametrize(
    ("ref", "code"), [("one", "connection-refused"), ("nobody", "sandbox-not-found"), ("a/../b", "sandbox-not-found")]
)
def test_why_a_connection_cannot_be_is_told(served: Daemon, ref: str, code: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    told: list[Exception] = []
    heard = threading.Event()

    def note(error: Exception) -> None:
        told.append(error)
        heard.set()

    with Forward(served.endpoint, ref, port, on_error=note) as forward:
        assert asked_nothing(forward) == b""
        assert heard.wait(WAIT_S)
    (error,) = told
    assert isinstance(error, BhattiError)
    assert error.code == code


def asked_nothing(forward: Forward) -> bytes:
    with socket.create_connection(forward.address, WAIT_S) as connection:
        try:
            return connection.recv(1)
        except ConnectionResetError:
            return b""


def test_without_a_daemon_the_connection_is_closed(tmp_path: object) -> None:
    with Forward(Endpoint(path=f"{tmp_path}/none"), "one", 80) as forward:
        assert asked_nothing(forward) == b""


def test_a_local_port_that_is_taken_is_refused(served: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BhattiError) as caught:
        Forward(served.endpoint, "one", 80, taken.getsockname()[1])
    assert caught.value.code == "port-taken"
    assert "LOCAL:PORT" in json.dumps(caught.value.hint)


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_what_is_no_port_is_refused(served: Daemon, port: int) -> None:
    with pytest.raises(BhattiError) as caught:
        Forward(served.endpoint, "one", port)
    assert caught.value.code == "invalid-port"
    assert checked_port(1) == 1
