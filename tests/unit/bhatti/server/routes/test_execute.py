import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import pytest
from tests.serving import Served

from bhatti.server.routes import execute

pytestmark = pytest.mark.anyio

EVENTS = {"Accept": "text/html, application/x-ndjson;q=0.9"}


async def run(served: Served, *cmd: str, **fields: object) -> dict[str, object]:
    async with served.http.post("/sandboxes/one/exec", json={"cmd": list(cmd), **fields}) as response:
        found: dict[str, object] = await response.json()
        return {"http": response.status, **found}


async def test_a_command_answers_with_its_output_and_exit_code(served: Served) -> None:
    result = await run(served, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result["http"], result["exit_code"], result["stdout"], result["stderr"]) == (200, 7, "out\n", "err\n")
    assert (result["reason"], result["truncated"]) == ("exited", False)


async def test_environment_directory_and_input_are_passed(served: Served) -> None:
    result = await run(served, "sh", "-c", "echo $A; pwd; cat", env={"A": "b"}, cwd="/tmp", stdin="typed")
    assert result["stdout"] == "b\n/tmp\ntyped"


async def test_output_that_is_no_text_is_replaced_or_encoded(served: Served) -> None:
    command = ("printf", r"\377\000x")
    assert (await run(served, *command))["stdout"] == "\ufffd\0x"
    assert (await run(served, *command, encoding="base64"))["stdout"] == base64.b64encode(b"\xff\0x").decode()
    echoed = await run(served, "cat", encoding="base64", stdin="/wA=")
    assert echoed["stdout"] == "/wA="


async def test_output_above_the_bound_is_dropped_and_said_so(served: Served) -> None:
    result = await run(served, "head", "-c", "100", "/dev/zero", max_output_bytes=10)
    assert (len(str(result["stdout"])), result["truncated"]) == (10, True)


async def test_a_command_that_takes_too_long_is_ended(served: Served) -> None:
    result = await run(served, "sleep", "60", timeout_sec=0.05)
    assert (result["exit_code"], result["reason"]) == (137, "timeout")


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"cmd": ["no-such-command"]}, 422, "command-not-found"),
        ({"cmd": ["/no/such/command"]}, 422, "command-not-found"),
        ({"cmd": ["/etc/passwd"]}, 422, "permission-denied"),
        ({"cmd": ["true"], "cwd": "/no/such/directory"}, 404, "no-such-file"),
        ({"cmd": ["true"], "stdin": "§", "encoding": "base64"}, 400, "invalid-field"),
        ({"cmd": ["true"], "detach": True, "stdin": "x"}, 400, "invalid-field"),
        ({"cmd": ["true"], "output_file": "/tmp/x"}, 400, "invalid-field"),
        ({"cmd": []}, 400, "invalid-field"),
        ({}, 400, "invalid-field"),
    ],
)
async def test_what_cannot_be_run_is_told(served: Served, fields: dict[str, object], status: int, code: str) -> None:
    async with served.http.post("/sandboxes/one/exec", json=fields) as response:
        body = await response.json()
    assert (response.status, body["code"]) == (status, code)
    assert status == 400 or body["hint"]


async def test_a_detached_command_goes_on_by_itself(served: Served, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    result = await run(served, "sh", "-c", f"read word < {tmp_path}/go; echo said $word", detach=True)
    assert result["detached"] is True
    os.kill(int(str(result["pid"])), 0)
    await anyio.to_thread.run_sync((tmp_path / "go").write_text, "hello\n")
    output = Path(str(result["output_file"]))
    with anyio.fail_after(60):
        while not await anyio.to_thread.run_sync(output.read_text):  # noqa: ASYNC110 - another process writes it
            await anyio.sleep(0.01)
    assert output.read_text() == "said hello\n"  # noqa: ASYNC240
    output.unlink()  # noqa: ASYNC240


async def test_a_stream_tells_output_as_it_comes_and_the_end(served: Served) -> None:
    command = {"cmd": ["sh", "-c", "echo one; echo two >&2; read x; echo $x; exit 3"], "stdin": "three\n"}
    async with served.http.post("/sandboxes/one/exec", json=command, headers=EVENTS) as response:
        assert response.headers["Content-Type"] == "application/x-ndjson"
        events = [json.loads(line) async for line in response.content]
    assert events[-1] == {"type": "exit", "exit_code": 3, "reason": "exited"}
    output = {kind: "".join(e["data"] for e in events if e["type"] == kind) for kind in ("stdout", "stderr")}
    assert output == {"stdout": "one\nthree\n", "stderr": "two\n"}


async def test_the_first_output_does_not_wait_for_the_last(served: Served, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    command = {"cmd": ["sh", "-c", f"echo first; read word < {tmp_path}/go"]}
    async with served.http.post("/sandboxes/one/exec", json=command, headers=EVENTS) as response:
        first = json.loads(await response.content.readline())
        assert first == {"type": "stdout", "data": "first\n"}
        await anyio.to_thread.run_sync((tmp_path / "go").write_text, "on\n")
        assert json.loads(await response.content.readline())["type"] == "exit"


async def test_a_character_cut_in_two_comes_out_whole(served: Served) -> None:
    command = {"cmd": ["sh", "-c", r"printf '\303'; sleep 0.1; printf '\251\303'"]}
    async with served.http.post("/sandboxes/one/exec", json=command, headers=EVENTS) as response:
        events = [json.loads(line) async for line in response.content]
    assert "".join(event.get("data", "") for event in events) == "é\ufffd"


async def test_a_stream_of_a_command_that_cannot_be_run_is_an_error(served: Served) -> None:
    async with served.http.post("/sandboxes/one/exec", json={"cmd": ["nosuch"]}, headers=EVENTS) as response:
        last = json.loads((await response.read()).splitlines()[-1])
    assert last["code"] == "command-not-found"


async def gone(pid: int) -> None:
    """Wait until a process is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with anyio.fail_after(60):
        await anyio.wait_readable(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("headers", [{}, EVENTS])
async def test_a_caller_who_leaves_takes_the_command_with_him(
    served: Served, tmp_path: Path, headers: dict[str, str]
) -> None:
    os.mkfifo(tmp_path / "pid")
    command = {"cmd": ["sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 60"]}
    caller = asyncio.get_running_loop().create_task(
        served.http.post("/sandboxes/one/exec", json=command, headers=headers).__aenter__()
    )
    pid = int(await anyio.to_thread.run_sync((tmp_path / "pid").read_text))
    if headers:
        (await caller).close()
    else:
        caller.cancel()
    await gone(pid)


@asynccontextmanager
async def conversation(served: Served, **request: object) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with served.http.ws_connect("/sandboxes/one/exec/ws") as socket:
        await socket.send_json(request)
        yield socket


async def heard(socket: aiohttp.ClientWebSocketResponse) -> tuple[bytes, bytes, dict[str, object]]:
    """Return stdout, stderr and the last event of a conversation."""
    output = {2: b"", 3: b""}
    while True:
        message = await socket.receive(timeout=60)
        if message.type is aiohttp.WSMsgType.TEXT:
            return output[2], output[3], json.loads(message.data)
        assert message.type is aiohttp.WSMsgType.BINARY
        output[message.data[0]] += message.data[1:]


async def test_a_conversation_carries_bytes_of_any_kind_both_ways(served: Served) -> None:
    data = bytes(range(256)) * 4096
    async with conversation(served, cmd=["sh", "-c", "tee /dev/stderr"]) as socket:
        for start in range(0, len(data), 65_536):
            await socket.send_bytes(b"\x01" + data[start : start + 65_536])
        await socket.send_bytes(b"\x01")
        stdout, stderr, event = await heard(socket)
    assert stdout == stderr == data
    assert event == {"type": "exit", "exit_code": 0, "reason": "exited"}


async def test_a_command_is_killed_when_asked_for(served: Served) -> None:
    async with conversation(served, cmd=["sh", "-c", "echo up; sleep 60"]) as socket:
        await socket.receive_bytes()
        await socket.send_bytes(b"\x07")
        assert (await heard(socket))[2] == {"type": "exit", "exit_code": 137, "reason": "killed"}


async def test_input_lets_a_paused_sandbox_run_on_and_so_do_its_end_and_a_kill(own: Served) -> None:
    async with conversation(own, cmd=["cat"]) as socket:
        await socket.send_bytes(b"\x01before")
        assert await socket.receive_bytes(timeout=60) == b"\x02before"
        await own.service.pause_sandbox("one")
        await socket.send_bytes(b"\x01after")
        assert await socket.receive_bytes(timeout=60) == b"\x02after"
        await own.service.pause_sandbox("one")
        await socket.send_bytes(b"\x01")
        assert await heard(socket) == (b"", b"", {"type": "exit", "exit_code": 0, "reason": "exited"})
    async with conversation(own, cmd=["sh", "-c", "echo up; sleep 600"]) as socket:
        await socket.receive_bytes(timeout=60)
        await own.service.pause_sandbox("one")
        await socket.send_bytes(b"\x07")
        assert (await heard(socket))[2]["reason"] == "killed"
    assert own.engine.resumes == 3


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"cmd": ["no-such-command"]}, "command-not-found"),
        ({"cmd": []}, "invalid-field"),
        ({"cmd": ["true"], "cwd": "/no/such"}, "no-such-file"),
    ],
)
async def test_a_conversation_that_cannot_begin_ends_with_the_reason(
    served: Served, request_: dict[str, object], code: str
) -> None:
    async with conversation(served, **request_) as socket:
        event = (await heard(socket))[2]
    assert (event["type"], event["code"]) == ("error", code)


@pytest.mark.parametrize("message", [b"\x02nonsense", b"", "text"])
async def test_a_message_out_of_protocol_ends_the_conversation(served: Served, message: bytes | str) -> None:
    async with conversation(served, cmd=["sleep", "60"]) as socket:
        await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
        assert (await heard(socket))[2]["code"] == "invalid-request"


async def test_the_first_message_is_the_request(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served.http.ws_connect("/sandboxes/one/exec/ws") as socket:
        await socket.send_bytes(b"\x01")
        assert (await heard(socket))[2]["code"] == "invalid-json"
    monkeypatch.setattr(execute, "FIRST_MESSAGE_S", 0.01)
    async with served.http.ws_connect("/sandboxes/one/exec/ws") as socket:
        assert (await heard(socket))[2]["error"] == "no request came"


async def test_a_caller_who_leaves_a_conversation_takes_the_command_with_him(served: Served) -> None:
    async with conversation(served, cmd=["sh", "-c", "echo $$; sleep 60"]) as socket:
        pid = int((await socket.receive_bytes())[1:])
    await gone(pid)


async def test_a_conversation_with_nobody_is_refused_before_it_begins(served: Served) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await served.http.ws_connect("/sandboxes/nobody/exec/ws")
    assert caught.value.status == 404


async def test_ten_commands_at_once_do_not_meet(served: Served) -> None:
    results: list[object] = []

    async def one(number: int) -> None:
        results.append((number, (await run(served, "echo", str(number)))["stdout"]))

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(one, number)
    assert sorted(map(str, results)) == [str((number, f"{number}\n")) for number in range(10)]
