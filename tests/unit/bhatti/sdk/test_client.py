from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemons import Daemon
from tests.unit.bhatti.sdk.test_connection import says, server

from bhatti.errors import Conflict, InvalidRequest, MissingDependency, NotFound, Unavailable
from bhatti.operations import table, types
from bhatti.sdk.client import Client


@pytest.fixture
def client(served: Daemon) -> Iterator[Client]:
    with served.client() as found:
        yield found


def test_an_operation_is_called_by_its_entry_in_the_table(client: Client) -> None:
    assert client.call(table.HEALTH).status == "ok"
    assert client.call(table.SANDBOX_GET, id="one").name == "one"
    result = client.call(table.EXEC, types.ExecRequest(cmd=["echo", "hi"]), id="one")
    assert (result.exit_code, result.stdout) == (0, "hi\n")


def test_the_daemons_errors_are_raised_as_what_they_were(client: Client) -> None:
    with pytest.raises(NotFound) as caught:
        client.call(table.SANDBOX_GET, id="nobody")
    assert (caught.value.code, caught.value.hint) == ("sandbox-not-found", "`bhatti ls` shows the names and ids")
    with pytest.raises(Conflict):
        client.call(table.SANDBOX_CREATE, types.SandboxCreate(name="one"))
    with pytest.raises(InvalidRequest):
        client.call(table.SANDBOX_CREATE, types.SandboxCreate(cpus=0))


def test_a_stream_yields_its_events(client: Client) -> None:
    request = types.ExecRequest(cmd=["sh", "-c", "echo a; exit 3"])
    events = list(client.stream(table.EXEC, request, types.ExecEvent, id="one"))
    assert [(event.type, event.data, event.exit_code) for event in events] == [
        ("stdout", "a\n", None),
        ("exit", None, 3),
    ]


def test_a_stream_raises_the_error_it_ends_with(client: Client) -> None:
    with pytest.raises(NotFound) as caught:
        list(client.stream(table.SANDBOX_CREATE, types.SandboxCreate(image="missing"), types.CreateEvent))
    assert caught.value.code == "image-not-found"
    assert client.call(table.HEALTH).status == "ok"


def test_a_stream_that_cannot_begin_raises_too(client: Client) -> None:
    with pytest.raises(NotFound):
        list(client.stream(table.EXEC, types.ExecRequest(cmd=["true"]), types.ExecEvent, id="nobody"))


def test_files_go_up_and_down(client: Client, tmp_path: Path) -> None:
    query = {"path": str(tmp_path / "a b&c")}
    assert client.upload(table.FILE_WRITE, b"content", query, id="one").status == "ok"
    assert client.download(table.FILE_READ, query, id="one").read() == b"content"
    assert client.head(table.FILE_STAT, query, id="one")["x-file-size"] == "7"


def test_an_error_without_a_body_still_says_its_status(client: Client) -> None:
    with pytest.raises(NotFound, match="404"):
        client.head(table.FILE_STAT, {"path": "/no/such"}, id="one")


def test_an_answer_that_is_not_ours_is_told_as_it_is() -> None:
    page = b"HTTP/1.1 503 Busy\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<h1>Busy</h1>"
    with server(says(page)) as endpoint, pytest.raises(Unavailable, match="<h1>Busy</h1>"):
        Client(endpoint).call(table.HEALTH)


def test_an_answer_that_makes_no_sense_is_no_crash() -> None:
    nonsense = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with server(says(nonsense)) as endpoint, pytest.raises(Unavailable) as caught:
        Client(endpoint).call(table.HEALTH)
    assert caught.value.code == "bad-answer"


def test_the_class_of_an_error_survives_a_narrower_code() -> None:
    body = b'{"error":"no qemu","code":"qemu-missing","kind":"missing-dependency"}'
    answer = b"HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with server(says(answer)) as endpoint, pytest.raises(MissingDependency) as caught:
        Client(endpoint).call(table.HEALTH)
    assert (caught.value.code, caught.value.exit_code) == ("qemu-missing", 71)
