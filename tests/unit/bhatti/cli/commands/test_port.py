import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest
from tests.daemons import Daemon, error_of
from tests.unit.bhatti.cli.conftest import Bhatti

from bhatti.cli.commands.port import pair
from bhatti.errors import InvalidRequest


@pytest.fixture
def greeting() -> Iterator[int]:
    """A program in the sandbox that greets one caller."""

    def serve() -> None:
        try:
            caller, _ = server.accept()
        except OSError:
            return
        with caller:
            caller.sendall(b"hello")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_ports_are_listed(bhatti: Bhatti, greeting: int) -> None:
    assert ["one", str(greeting), "127.0.0.1"] in [
        line.split() for line in bhatti("port", "ls", "one").out.splitlines()
    ]
    assert str(greeting) in bhatti("port", "ls", "one", "-q").out.split()
    assert greeting in [found["container_port"] for found in bhatti("port", "ls", "one", "--json").json()]
    everywhere = bhatti("port", "ls", "--json").json()
    assert ("one", greeting) in [(found["sandbox"], found["container_port"]) for found in everywhere]
    assert bhatti("port", "ls", "nobody").code == 4


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_port_is_here_until_it_is_interrupted(served: Daemon, greeting: int, ending: signal.Signals) -> None:
    process = served.popen("forward", "one", f"0:{greeting}", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        (where,) = json.loads(process.stdout.readline())
        assert (where["host"], where["port"]) == ("127.0.0.1", greeting)
        with socket.create_connection((where["host"], where["local_port"]), 60) as connection:
            assert connection.recv(5, socket.MSG_WAITALL) == b"hello"
            process.send_signal(ending)
            assert process.wait(60) == 0
        assert process.stderr.read() == b""


def test_what_goes_wrong_with_a_connection_is_told_and_the_next_is_served(served: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    process = served.popen("forward", "one", f"0:{port}", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        here = process.stdout.readline().split(b"\t")[0].decode()
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", int(here.rpartition(":")[2])), 60):
                assert b"refused" in process.stderr.readline()
                assert b"does it listen on that port?" in process.stderr.readline()
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("nobody", "80"), (4, "sandbox-not-found")),
        (("one", "0"), (2, "invalid-port")),
        (("one", "http"), (2, "invalid-port")),
    ],
)
def test_what_cannot_be_is_told_at_once(served: Daemon, arguments: tuple[str, ...], code: tuple[int, str]) -> None:
    assert error_of(served.bhatti("forward", *arguments, "--json")) == code


def test_a_port_that_is_taken_is_told(served: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert error_of(served.bhatti("forward", "one", f"{taken.getsockname()[1]}:80", "--json")) == (5, "port-taken")


def test_ports_come_in_pairs() -> None:
    assert [pair(text) for text in ("80", "8080:80", "0:80")] == [(80, 80), (8080, 80), (0, 80)]
    for text in ("", ":80", "80:", "0", "-1", "65536", "1:65536", "65536:1", "a:b", "1:2:3", "999999"):
        with pytest.raises(InvalidRequest):
            pair(text)
