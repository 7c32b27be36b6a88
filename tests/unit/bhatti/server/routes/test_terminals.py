import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import aiohttp
import anyio
import pytest
from tests.serving import Served

from bhatti.engines.base import Machine

pytestmark = pytest.mark.anyio

Socket = aiohttp.ClientWebSocketResponse


@asynccontextmanager
async def terminal(served: Served, **query: str) -> AsyncIterator[tuple[Socket, dict[str, object]]]:
    async with served.http.ws_connect(f"/sandboxes/one/ws?{urlencode(query)}") as socket:
        yield socket, await socket.receive_json(timeout=60)


async def until(socket: Socket, text: bytes) -> bytes:
    """Read until `text` has come; return all that came."""
    seen = b""
    while text not in seen:
        message = await socket.receive(timeout=60)
        assert message.type is aiohttp.WSMsgType.BINARY, (message, seen)
        seen += message.data
    return seen


async def test_a_terminal_echoes_and_ends_with_its_programs_code(served: Served) -> None:
    async with terminal(served, cmd="sh") as (socket, session):
        assert (session["type"], session["offset"]) == ("session", 0)
        await socket.send_bytes(b"echo $((6*7))\n")
        await until(socket, b"42\r\n")
        await socket.send_str("exit 3\n")  # text is input too
        while (message := await socket.receive(timeout=60)).type is aiohttp.WSMsgType.BINARY:
            pass
        assert json.loads(message.data) == {"type": "exit", "exit_code": 3}


async def test_without_a_command_there_is_a_login_shell(served: Served) -> None:
    async with terminal(served) as (socket, _):
        await socket.send_bytes(b"shopt -q login_shell 2>&1; echo login-$((1 + $?))\n")
        await until(socket, b"login-1\r\n")


async def test_the_size_is_known_at_the_start_and_followed(served: Served) -> None:
    async with terminal(served, cmd='["sh"]', rows="40", cols="120") as (socket, _):
        await socket.send_bytes(b"stty size\n")
        await until(socket, b"40 120")
        await socket.send_json({"type": "resize", "rows": 50, "cols": 132})
        await socket.send_bytes(b"stty size\n")
        await until(socket, b"50 132")


async def test_text_that_is_no_resize_is_typed(served: Served) -> None:
    async with terminal(served, cmd="cat") as (socket, _):
        for text in ('{"type": "resize"}', '{"type": "resize", "rows": 0, "cols": 5}', "{not json"):
            await socket.send_str(text + "\n")
            await until(socket, text.encode())


async def test_a_terminal_outlives_its_connection_and_says_what_was_missed(served: Served) -> None:
    async with terminal(served, cmd="sh") as (socket, session):
        await socket.send_bytes(b"echo before-$((1+1))\n")
        seen = await until(socket, b"before-2\r\n")
    sid, position = str(session["session_id"]), len(seen)
    async with terminal(served, session=sid) as (socket, again):
        assert (again["session_id"], again["offset"]) == (sid, 0)
        assert int(str(again["end"])) >= position
        await until(socket, b"before-2\r\n")  # all of it is replayed
    async with terminal(served, session=sid, since=str(position)) as (socket, again):
        assert again["offset"] == position
        await socket.send_bytes(b"echo after-$((1+1))\n")
        assert b"before" not in await until(socket, b"after-2\r\n")


async def test_who_only_watches_types_nothing(served: Served) -> None:
    async with terminal(served, cmd="cat") as (writer, session):
        sid = str(session["session_id"])
        async with terminal(served, session=sid, read_only="true") as (watcher, _):
            await watcher.send_bytes(b"from the watcher\n")
            await writer.send_bytes(b"from the writer\n")
            seen = await until(watcher, b"from the writer\r\n")
            assert b"watcher" not in seen


async def test_a_session_that_is_not_there_is_told(served: Served) -> None:
    async with terminal(served, session="s99") as (_, event):
        assert (event["type"], event["code"]) == ("error", "session-not-found")


@pytest.mark.parametrize(
    "query", ["rows=0", "rows=many", "colour=red", "cmd=[1", "cmd=[]", "cmd=[1]", "new=true&session=s1"]
)
async def test_a_terminal_that_makes_no_sense_is_refused_before_it_begins(served: Served, query: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await served.http.ws_connect(f"/sandboxes/one/ws?{query}")
    assert caught.value.status == 400


async def test_a_program_that_is_not_there_is_told(served: Served) -> None:
    async with terminal(served, cmd="no-such-program") as (_, event):
        assert event["code"] == "command-not-found"


async def test_leaving_detaches(own: Served) -> None:
    async with terminal(own, cmd="cat") as (_, session):
        pass
    link = await own.guest("one")
    with anyio.fail_after(60):
        while any(s.attached for s in await link.sessions()):
            await anyio.lowlevel.checkpoint()
    (found,) = await link.sessions()
    assert (found.session_id, found.running) == (session["session_id"], True)


async def test_a_sandbox_that_sleeps_is_left_asleep_by_who_does_not_ask_to_wake_it(own: Served) -> None:
    async with terminal(own, cmd="cat") as (_, session):
        pass
    await own.service.stop_sandbox("one")
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await own.http.ws_connect(f"/sandboxes/one/ws?session={session['session_id']}&wake=false")
    assert caught.value.status == 409
    assert (await own.service.sandbox("one")).status == "stopped"
    async with terminal(own, session=str(session["session_id"])) as (_, again):
        assert again["created_at"] == session["created_at"]


async def test_typing_lets_a_paused_sandbox_run_on_and_watching_or_resizing_does_not(own: Served) -> None:
    async with terminal(own, cmd="cat") as (socket, session):
        await socket.send_bytes(b"before\n")
        await until(socket, b"before\r\nbefore\r\n")
        async with terminal(own, session=str(session["session_id"]), read_only="true") as (watcher, _):
            await own.service.pause_sandbox("one")
            await watcher.send_bytes(b"from the watcher\n")
        assert own.engine.resumes == 0  # closing is answered after what was sent before
        await socket.send_bytes(b"after\n")
        assert await until(socket, b"after\r\nafter\r\n") == b"after\r\nafter\r\n"
        assert (await own.service.sandbox("one")).thermal == "hot"
        await socket.send_bytes(b"again\n")
        await until(socket, b"again\r\nagain\r\n")
        await own.service.pause_sandbox("one")
        await socket.send_json({"type": "resize", "rows": 30, "cols": 90})
    assert own.engine.resumes == 1
    assert (await own.service.sandbox("one")).thermal == "warm"


async def test_typing_while_it_is_being_paused_waits_and_lets_it_run_on(
    own: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = anyio.Event(), anyio.Event()
    real = own.engine.pause

    async def slow(sandbox_id: str) -> Machine:
        machine = await real(sandbox_id)
        begun.set()
        await go_on.wait()
        return machine

    monkeypatch.setattr(own.engine, "pause", slow)
    async with terminal(own, cmd="cat") as (socket, _), anyio.create_task_group() as tasks:
        tasks.start_soon(own.service.pause_sandbox, "one")
        await begun.wait()
        await socket.send_bytes(b"typed\n")
        go_on.set()
        await until(socket, b"typed\r\ntyped\r\n")
    assert (await own.service.sandbox("one")).thermal == "hot"


async def test_who_is_sent_away_is_told_so(served: Served) -> None:
    async with terminal(served, cmd="cat") as (first, session), terminal(served, session=str(session["session_id"])):
        message = await first.receive(timeout=60)
        assert json.loads(message.data) == {"type": "exit", "exit_code": 0, "reason": "taken-over"}
