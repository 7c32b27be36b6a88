import asyncio
import socket
from pathlib import Path

import pytest
from tests.daemons import Daemon
from tests.unit.bhatti.sdk.test_connection import OK, says, server

from bhatti.errors import BhattiError, Unavailable
from bhatti.sdk.aio.connection import Connection, conversation
from bhatti.sdk.aio.finishing import in_thread
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.websocket import handshake

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
async def test_a_connection_is_kept_and_used_again(family: int) -> None:
    with server(says(OK, OK), family=family) as endpoint:
        connection = Connection(endpoint)
        for _ in range(2):
            assert await (await connection.request("GET", "/")).read() == b"ok"
        connection.close()


async def test_one_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bhatti.sdk.connection.IDLE_S", 0.0)
    with server(says(OK), says(OK)) as endpoint:
        connection = Connection(endpoint)
        for _ in range(2):
            assert await (await connection.request("POST", "/", body=b"create something")).read() == b"ok"
        connection.close()


async def test_a_network_that_is_gone_without_a_word_is_noticed() -> None:
    with server(says(OK), family=socket.AF_INET) as endpoint:
        connection = Connection(endpoint)
        assert await (await connection.request("GET", "/")).read() == b"ok"
        assert connection._socket is not None
        assert connection._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        connection.close()


async def test_one_that_was_closed_meanwhile_is_opened_again() -> None:
    with server(says(OK), says(OK)) as endpoint:
        connection = Connection(endpoint)
        for _ in range(2):
            assert await (await connection.request("GET", "/")).read() == b"ok"
        connection.close()


async def test_a_request_that_nobody_heard_is_sent_again_only_without_a_body() -> None:
    def swallow(connection: socket.socket) -> None:
        says(OK)(connection)
        connection.recv(65_536)

    with server(swallow, swallow) as endpoint:
        connection = Connection(endpoint)
        for _ in range(2):
            assert await (await connection.request("GET", "/")).read() == b"ok"
        with pytest.raises(Unavailable) as caught:
            await connection.request("POST", "/", body=b"once")
        assert caught.value.code == "connection-lost"


async def test_an_answer_that_breaks_off_is_an_error() -> None:
    with server(says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")) as endpoint:
        with pytest.raises(Unavailable) as caught:
            await (await Connection(endpoint).request("GET", "/")).read()
        assert caught.value.code == "connection-lost"


async def test_nobody_there_is_told(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        for endpoint in (
            Endpoint(path=str(tmp_path / "s")),
            Endpoint(host="127.0.0.1", port=unused.getsockname()[1]),
        ):
            with pytest.raises(Unavailable) as caught:
                await Connection(endpoint).request("GET", "/")
            assert caught.value.code == "daemon-not-running"


async def test_a_daemon_that_is_called_by_many_at_once_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)  # the backlog is full now
        asking = asyncio.gather(Connection(Endpoint(path=path)).request("GET", "/"))
        await asyncio.wait([asking], timeout=0.05)
        for _ in range(2):
            accepted = (await in_thread(listener.accept))[0]
            accepted.close()
        with pytest.raises(Unavailable) as caught:  # it was heard, and hung up on
            await asking
        assert caught.value.code == "connection-lost"


async def test_a_conversation_that_is_refused_says_why(served: Daemon) -> None:
    with pytest.raises(BhattiError) as caught:
        await conversation(served.endpoint, "/sandboxes/nobody/exec/ws")
    assert caught.value.code == "sandbox-not-found"


async def test_an_answer_to_an_upgrade_may_be_no(served: Daemon) -> None:
    connection = Connection(served.endpoint)
    answer = await connection.upgrade("/sandboxes", handshake())
    assert not isinstance(answer, tuple)
    await answer.read()
    connection.close()
