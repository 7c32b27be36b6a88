"""Engine integration tests, Lifecycle, Files, Sessions: what the link of an engine reaches is a real guest."""

import hashlib

import anyio
import pytest
from tests.conformance.conftest import Sandbox

from bhatti.engines.base import Engine
from bhatti.errors import GuestFailure
from bhatti.guestlink.commands import Exit, Stderr, Stdout
from lohar.wire.messages import ExitReason

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(300)]


async def test_output_error_and_exit_code_are_told_apart(box: Sandbox) -> None:
    result = await box.link.exec(["sh", "-c", "echo out; echo err >&2; exit 42"])
    assert (result.exit_code, result.stdout, result.stderr) == (42, b"out\n", b"err\n")


async def test_a_command_that_is_not_there_is_the_guests_failure(box: Sandbox) -> None:
    with pytest.raises(GuestFailure) as caught:
        await box.link.exec(["no-such-command"])
    assert caught.value.code == "command-not-found"


async def test_commands_run_as_the_user_lohar_unless_asked_otherwise(box: Sandbox) -> None:
    assert (await box.link.exec(["id", "-un"])).stdout == b"lohar\n"
    assert (await box.link.exec(["id", "-un"], user="root")).stdout == b"root\n"


async def test_the_user_can_become_root(engine: Engine, box: Sandbox) -> None:
    if not engine.capabilities.sudo:
        pytest.skip("programs inside cannot gain rights")
    assert (await box.link.exec(["sudo", "-n", "id", "-un"])).stdout == b"root\n"


async def test_commands_start_in_the_workspace_which_is_theirs(box: Sandbox) -> None:
    result = await box.link.exec(["sh", "-c", "pwd; touch here && rm here && echo writable"])
    assert result.stdout == b"/workspace\nwritable\n"


async def test_a_stream_delivers_as_things_happen(box: Sandbox) -> None:
    events = []
    async with box.link.stream(["sh", "-c", "echo one; read answer; echo $answer >&2; exit 3"]) as stream:
        async for event in stream:
            events.append(event)
            if isinstance(event, Stdout):
                await stream.send_stdin(b"two\n")
    assert [event.data for event in events if isinstance(event, Stdout)] == [b"one\n"]
    assert [event.data for event in events if isinstance(event, Stderr)] == [b"two\n"]
    assert isinstance(events[-1], Exit)
    assert events[-1].code == 3


async def test_ten_commands_at_once_all_answer(box: Sandbox) -> None:
    outputs: dict[int, bytes] = {}

    async def run(number: int) -> None:
        outputs[number] = (await box.link.exec(["echo", str(number)])).stdout

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(run, number)
    assert outputs == {number: b"%d\n" % number for number in range(10)}


async def test_a_file_goes_in_and_comes_out_and_the_guest_sees_the_same(box: Sandbox) -> None:
    """Files: all file operations through the engine layer."""
    content = bytes(range(256)) * 40_000
    await box.link.write_file("/tmp/deep/down/data", content, mode="0640")
    assert await box.link.read_file("/tmp/deep/down/data") == content
    result = await box.link.exec(["sha256sum", "/tmp/deep/down/data"])
    assert result.stdout.split()[0].decode() == hashlib.sha256(content).hexdigest()
    info = await box.link.stat("/tmp/deep/down/data")
    assert (info.size, info.mode) == (len(content), "0640")
    assert [entry.name for entry in await box.link.list_dir("/tmp/deep/down")] == ["data"]
    await box.link.exec(["rm", "-r", "/tmp/deep"], user="root")


async def test_a_missing_file_is_the_guests_failure(box: Sandbox) -> None:
    with pytest.raises(GuestFailure, match="no such file"):
        await box.link.read_file("/nonexistent")


async def test_every_operation_on_files(box: Sandbox) -> None:
    """Files: All file operations through the engine layer; server-side truncation through the engine layer."""
    link = box.link
    await link.write_file("/tmp/files/grüße.txt", b"".join(b"line %d\n" % number for number in range(1, 6)))
    for chosen, wanted in (
        ({}, b"line 1\nline 2\nline 3\nline 4\nline 5\n"),
        ({"limit": 2}, b"line 1\nline 2\n"),
        ({"offset": 4}, b"line 4\nline 5\n"),
        ({"offset": 2, "limit": 1}, b"line 2\n"),
        ({"max_bytes": 9}, b"line 1\nli"),
        ({"offset": 9}, b""),
    ):
        assert await link.read_file("/tmp/files/grüße.txt", **chosen) == wanted, chosen
    await link.write_file("/tmp/files/grüße.txt", b"", mode="0600")
    assert await link.read_file("/tmp/files/grüße.txt") == b""
    assert (await link.stat("/tmp/files/grüße.txt")).size == 0
    assert (await link.stat("/tmp/files")).is_dir
    await link.exec(["mkdir", "/tmp/files/empty"], user="root")
    listed = [(entry.name, entry.is_dir) for entry in await link.list_dir("/tmp/files")]
    assert listed == [("empty", True), ("grüße.txt", False)]
    assert await link.list_dir("/tmp/files/empty") == []
    for call, code in (
        (link.read_file("/tmp/files"), "is-a-directory"),
        (link.write_file("/tmp/files", b"x"), "is-a-directory"),
        (link.list_dir("/tmp/files/grüße.txt"), "not-a-directory"),
        (link.list_dir("/nonexistent"), "no-such-file"),
        (link.stat("/nonexistent"), "no-such-file"),
    ):
        with pytest.raises(GuestFailure) as caught:
            await call
        assert caught.value.code == code
    await link.exec(["rm", "-r", "/tmp/files"], user="root")


async def test_a_shell_echoes_resizes_and_ends(box: Sandbox) -> None:
    seen = b""
    async with box.link.shell(["sh"], rows=30, cols=100) as shell:
        await shell.write(b"stty size; echo mar''ker\n")
        while b"marker" not in seen:
            seen += await shell.read() or b""
        await shell.resize(40, 120)
        await shell.write(b"stty size; exit 5\n")
        while (data := await shell.read()) is not None:
            seen += data
        assert shell.exit_code == 5
    assert b"30 100" in seen
    assert b"40 120" in seen


async def test_a_session_outlives_its_connection(box: Sandbox) -> None:
    """Sessions: Session list, attach, kill through the engine layer."""
    async with box.link.shell(["sh"]) as shell:
        await shell.write(b"echo be''fore\n")
        seen = b""
        while b"before" not in seen:
            seen += await shell.read() or b""
        session_id = shell.session.session_id
    assert session_id in {session.session_id for session in await box.link.sessions()}
    async with box.link.attach(session_id) as again:
        replayed = b""
        while b"before" not in replayed:
            replayed += await again.read() or b""
        await box.link.kill_session(session_id)
        while await again.read() is not None:
            pass
        assert again.exit is not None
        assert again.exit.reason is ExitReason.KILLED
    assert session_id not in {session.session_id for session in await box.link.sessions() if session.running}


async def test_a_tunnel_reaches_a_server_in_the_guest(box: Sandbox) -> None:
    server = ["python3", "-u", "-m", "http.server", "9000", "--bind", "127.0.0.1", "--directory", "/etc"]
    async with box.link.stream(server) as running:
        async for event in running:
            if isinstance(event, Stdout) and b"Serving" in event.data:
                break
        async with box.link.forward(9000) as tunnel:
            await tunnel.send(b"GET /hostname HTTP/1.0\r\n\r\n")
            answer = b""
            while True:
                try:
                    answer += await tunnel.receive()
                except anyio.EndOfStream:
                    break
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert body.strip() == box.spec.name.encode()


async def test_a_tunnel_to_a_closed_port_is_refused(box: Sandbox) -> None:
    with pytest.raises(GuestFailure) as caught:
        async with box.link.forward(59_999):
            pass
    assert caught.value.code == "connection-refused"


async def test_a_large_output_arrives_whole(box: Sandbox) -> None:
    result = await box.link.exec(["head", "-c", str(4 << 20), "/dev/zero"])
    assert result.stdout == bytes(4 << 20)
