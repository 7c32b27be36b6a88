import asyncio
import logging

import aiohttp
import anyio
import pytest
from tests.serving import Served

from bhatti.server import sockets
from bhatti.server.sockets import OPEN_SOCKETS

pytestmark = pytest.mark.anyio


async def test_whoever_is_on_a_socket_is_told_when_the_daemon_stops(served: Served) -> None:
    await served.create()
    async with served.http.ws_connect("/sandboxes/one/exec/ws") as socket:
        await socket.send_json({"cmd": ["sleep", "60"]})
        await served.runner.app[OPEN_SOCKETS].close()
        message = await socket.receive()
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert (message.data, message.extra) == (aiohttp.WSCloseCode.GOING_AWAY, "the daemon is stopping")


async def test_whoever_does_not_read_is_cut_off_when_the_daemon_stops(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "GOODBYE_S", 0.1)
    await served.create()
    for path, first in (("ws?cmd=yes", None), ("exec/ws", {"cmd": ["yes"]})):
        async with served.http.ws_connect(f"/sandboxes/one/{path}") as socket:
            if first is not None:
                await socket.send_json(first)
            await socket.receive()
            transport = socket._conn.transport if socket._conn is not None else None
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            with anyio.fail_after(60):
                while not held_up(served):  # noqa: ASYNC110 - what the kernel takes, it does not tell
                    await anyio.sleep(0.01)
                await served.runner.app[OPEN_SOCKETS].close()
                transport.resume_reading()
                while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                    pass


def held_up(served: Served) -> bool:
    """Say whether what the daemon sends waits for its reader."""
    found = [transport for transport in served.runner.app[OPEN_SOCKETS]._open.values() if not transport.is_closing()]
    return any(isinstance(one, asyncio.Transport) and one.get_write_buffer_size() > 0 for one in found)


async def test_a_silent_conversation_is_kept_alive(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "PING_S", 0.01)
    await served.create()
    async with served.http.ws_connect("/sandboxes/one/exec/ws", autoping=False) as socket:
        await socket.send_json({"cmd": ["sleep", "60"]})
        assert (await socket.receive()).type is aiohttp.WSMsgType.PING
        assert (await socket.receive()).type is aiohttp.WSMsgType.PING


async def test_an_ordinary_request_is_no_handshake(served: Served) -> None:
    await served.create()
    async with served.http.get("/sandboxes/one/exec/ws") as response:
        assert response.status == 400
        assert (await response.json())["code"] == "invalid-request"


async def test_a_defect_in_a_conversation_is_told_and_logged(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await served.create()
    link = await served.guest("one")

    def broken(*args: object, **kwargs: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(link, "stream", broken)
    with caplog.at_level(logging.ERROR):
        async with served.http.ws_connect("/sandboxes/one/exec/ws") as socket:
            await socket.send_json({"cmd": ["true"]})
            event = await socket.receive_json()
    assert (event["type"], event["code"]) == ("error", "internal")
    assert "oops" not in str(event)
    assert "oops" in caplog.text


async def test_the_socket_is_closed_after_the_last_word(served: Served) -> None:
    await served.create()
    async with served.http.ws_connect("/sandboxes/one/exec/ws") as socket:
        await socket.send_json({"cmd": ["true"]})
        assert (await socket.receive_json())["type"] == "exit"
        assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING)
