import asyncio
import contextlib
import os
import socket
import tracemalloc
from pathlib import Path

import anyio
import pytest
from tests.unit.bhatti.guestlink.conftest import AgentProcess, NewLink, until
from tests.unit.bhatti.guestlink.peers import Peer, listening, old_agent

from bhatti.errors import GuestFailure, GuestTimeout, Unavailable
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.commands import Exit, Stderr, Stdout
from bhatti.guestlink.deadlines import Deadlines
from lohar.wire.frames import FrameType, encode, encode_exit
from lohar.wire.messages import ExitReason

pytestmark = pytest.mark.anyio

MEBIBYTE = 1 << 20


def alive(pid: int) -> bool:
    """Tell whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class TestExec:
    async def test_output_of_both_kinds_and_the_exit_code_come_back(self, link: GuestLink) -> None:
        result = await link.exec(["sh", "-c", "echo out; echo err >&2; exit 3"])
        assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
        assert result.reason is ExitReason.EXITED
        assert not result.truncated

    async def test_environment_and_directory_are_the_requests(self, link: GuestLink, workspace: Path) -> None:
        result = await link.exec(["sh", "-c", 'echo "$NAME"; pwd'], env={"NAME": "v\u00e4lue"}, cwd=str(workspace))
        assert result.stdout.decode() == f"v\u00e4lue\n{workspace}\n"

    async def test_without_stdin_a_command_reads_nothing(self, link: GuestLink) -> None:
        assert (await link.exec(["cat"])).stdout == b""

    @pytest.mark.parametrize("size", [0, 5, 3 * MEBIBYTE + 1], ids=["empty", "small", "3 MiB"])
    async def test_stdin_arrives_whole_while_output_flows_back(self, link: GuestLink, size: int) -> None:
        data = os.urandom(size)
        assert (await link.exec(["cat"], stdin=data)).stdout == data

    async def test_a_command_may_leave_its_stdin_unread(self, link: GuestLink) -> None:
        assert (await link.exec(["true"], stdin=bytes(3 * MEBIBYTE))).exit_code == 0
        assert (await link.exec(["echo", "next"])).stdout == b"next\n"

    async def test_output_above_the_limit_is_dropped_and_said_to_be(self, link: GuestLink) -> None:
        result = await link.exec(["sh", "-c", "head -c 3000000 /dev/zero"], max_output_bytes=1000)
        assert len(result.stdout) == 1000
        assert result.truncated
        exact = await link.exec(["sh", "-c", "printf 12345; printf 67 >&2"], max_output_bytes=7)
        assert (exact.stdout, exact.stderr, exact.truncated) == (b"12345", b"67", False)

    async def test_a_timeout_kills_and_says_so(self, link: GuestLink) -> None:
        result = await link.exec(["sh", "-c", "echo begun; sleep 60"], timeout_s=0.2)
        assert result.reason is ExitReason.TIMEOUT
        assert (result.exit_code, result.signal, result.stdout) == (137, 9, b"begun\n")

    async def test_a_signal_is_the_reason_when_somebody_sends_one(self, link: GuestLink) -> None:
        result = await link.exec(["sh", "-c", "kill -TERM $$"])
        assert (result.exit_code, result.reason, result.signal) == (143, ExitReason.SIGNALLED, 15)

    @pytest.mark.parametrize(
        ("argv", "code"),
        [
            (["/nonexistent"], "command-not-found"),
            (["nonexistent-command"], "command-not-found"),
            (["/etc"], "permission-denied"),
            ([], "empty-argv"),
        ],
    )
    async def test_what_cannot_be_started_is_the_agents_failure(
        self, link: GuestLink, argv: list[str], code: str
    ) -> None:
        with pytest.raises(GuestFailure, match="agent error: ") as caught:
            await link.exec(argv)
        assert caught.value.code == code
        assert (await link.exec(["echo", "still here"])).stdout == b"still here\n"

    async def test_a_missing_directory_is_not_a_missing_command(self, link: GuestLink) -> None:
        with pytest.raises(GuestFailure) as caught:
            await link.exec(["true"], cwd="/nowhere")
        assert caught.value.code == "no-such-file"

    async def test_cancelling_kills_the_command_in_the_guest(self, link: GuestLink, agent: AgentProcess) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(link.exec, ["sleep", "60"])
            await until(lambda: bool(agent.children()))
            tasks.cancel_scope.cancel()
        await until(lambda: not agent.children())

    async def test_fifty_at_once_do_not_mix(self, link: GuestLink) -> None:
        results: dict[int, bytes] = {}

        async def run(number: int) -> None:
            results[number] = (await link.exec(["echo", str(number)])).stdout

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(run, number)
        assert results == {number: b"%d\n" % number for number in range(50)}


class TestStream:
    async def test_events_come_as_they_happen(self, link: GuestLink) -> None:
        async with link.stream(["sh", "-c", "echo one; read line; echo two >&2"]) as stream:
            assert await anext(stream) == Stdout(b"one\n")
            await stream.send_stdin(b"go\n")
            assert await anext(stream) == Stderr(b"two\n")
            assert await anext(stream) == Exit(0, ExitReason.EXITED)
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
            assert stream.exit == Exit(0, ExitReason.EXITED)

    async def test_closing_stdin_ends_what_reads_it(self, link: GuestLink) -> None:
        async with link.stream(["cat"]) as stream:
            await stream.send_stdin(b"abc")
            await stream.close_stdin()
            assert [event async for event in stream] == [Stdout(b"abc"), Exit(0, ExitReason.EXITED)]

    async def test_killing_is_the_reason_for_its_exit(self, link: GuestLink) -> None:
        async with link.stream(["sleep", "60"]) as stream:
            await stream.kill()
            assert [event async for event in stream] == [Exit(137, ExitReason.KILLED, signal=9)]

    async def test_leaving_early_kills_the_command_and_its_group(self, link: GuestLink) -> None:
        async with link.stream(["sh", "-c", "sleep 60 & echo $!; wait"]) as stream:
            event = await anext(stream)
            assert isinstance(event, Stdout)
            grandchild = int(event.data)
            assert alive(grandchild)
        await until(lambda: not alive(grandchild))

    async def test_a_finished_command_gives_its_connection_back(self, link: GuestLink) -> None:
        async with link.stream(["true"]) as stream:
            async for _ in stream:
                pass
        assert link._pool.idle == 1

    async def test_the_timeout_ends_a_stream_too(self, link: GuestLink) -> None:
        async with link.stream(["sleep", "60"], timeout_s=0.1) as stream:
            assert [event async for event in stream] == [Exit(137, ExitReason.TIMEOUT, signal=9)]

    async def test_cancelling_the_wait_for_an_event_loses_none(self, link: GuestLink) -> None:
        async with link.stream(["sh", "-c", "read line; echo $line"]) as stream:
            with anyio.move_on_after(0.05):
                await anext(stream)
            await stream.send_stdin(b"kept\n")
            assert await anext(stream) == Stdout(b"kept\n")

    async def test_who_does_not_read_stops_the_command_and_loses_nothing(self, link: GuestLink) -> None:
        total = 16 * MEBIBYTE
        async with link.stream(["head", "-c", str(total), "/dev/zero"]) as stream:
            await anext(stream)
            await anyio.sleep(0.3)  # long enough for 16 MiB if nobody held them back
            channel = stream._channel
            assert channel._queued < 2 * MEBIBYTE
            received = 0
            async for event in stream:
                received += 0 if isinstance(event, Exit) else len(event.data)
        assert received > total - MEBIBYTE

    async def test_outside_its_block_a_stream_says_how_to_use_it(self, link: GuestLink) -> None:
        with pytest.raises(RuntimeError, match="async with"):
            await anext(link.stream(["true"]))


class TestDetached:
    async def test_a_detached_command_outlives_its_connection(self, link: GuestLink, workspace: Path) -> None:
        output = workspace / "log"
        left = await link.detach(["sh", "-c", "echo begun; sleep 60"], output_file=str(output))
        assert left.output_file == str(output)
        await until(lambda: output.exists() and output.read_bytes() == b"begun\n")
        link.drop_connections()
        await link.activity()
        assert alive(left.pid)
        os.kill(left.pid, 9)

    async def test_one_that_cannot_be_started_is_refused(self, link: GuestLink) -> None:
        with pytest.raises(GuestFailure, match="no such file"):
            await link.detach(["/nonexistent"])


class TestHostileAgent:
    """An agent that somebody else has taken the place of: what it sends must not fill the host's memory."""

    async def test_what_it_says_of_a_detached_command_has_an_end(self, tmp_path: Path, new_link: NewLink) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.EXEC_REQ)
            with contextlib.suppress(ConnectionError):
                while True:
                    await peer.send(FrameType.STDOUT, b"[" * 1000)

        async with listening(tmp_path / "agent", script):
            with pytest.raises(Unavailable) as caught:
                await new_link().detach(["true"])
            assert caught.value.code == "protocol-violation"

    async def test_output_beyond_the_limit_costs_nothing_in_however_many_pieces(
        self, tmp_path: Path, new_link: NewLink
    ) -> None:
        pieces = 30_000

        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.EXEC_REQ)
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # what is under way should not count
            frames = encode(FrameType.STDOUT, b"xx") * (pieces // 100)
            for _ in range(100):
                await peer.send_raw(frames)
            await peer.send(FrameType.EXIT, encode_exit(0))
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            link = new_link()
            await link.hello()
            tracemalloc.start()
            try:
                result = await link.exec(["true"], max_output_bytes=pieces)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert (len(result.stdout), result.truncated) == (pieces, True)
        assert peak < MEBIBYTE, "kept apart, the pieces take 1.3 MiB"


class TestOldAgent:
    """An agent of the first revision: one request for each connection, no options."""

    async def test_commands_run(self, tmp_path: Path, new_link: NewLink) -> None:
        async with listening(tmp_path / "agent", old_agent):
            link = new_link()
            result = await link.exec(["sh", "-c", "echo out; echo err >&2; exit 3"])
            assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
            assert result.reason is ExitReason.EXITED
            assert (await link.exec(["sh", "-c", "kill -9 $$"])).reason is ExitReason.SIGNALLED

    async def test_stdin_ends_by_half_closing(self, tmp_path: Path, new_link: NewLink) -> None:
        async with listening(tmp_path / "agent", old_agent):
            link = new_link()
            data = os.urandom(MEBIBYTE)
            assert (await link.exec(["cat"], stdin=data)).stdout == data
            assert (await link.exec(["cat"], stdin=b"")).stdout == b""
            async with link.stream(["cat"]) as stream:
                await stream.send_stdin(b"x")
                await stream.close_stdin()
                assert [event async for event in stream] == [Stdout(b"x"), Exit(0, ExitReason.EXITED)]

    async def test_the_host_keeps_the_time(self, tmp_path: Path, new_link: NewLink) -> None:
        async with listening(tmp_path / "agent", old_agent):
            result = await new_link().exec(["sleep", "60"], timeout_s=0.1)
            assert (result.exit_code, result.reason) == (137, ExitReason.TIMEOUT)

    async def test_the_host_keeps_the_time_of_a_command_that_is_never_silent(
        self, tmp_path: Path, new_link: NewLink
    ) -> None:
        async with listening(tmp_path / "agent", old_agent):
            result = await new_link().exec(["yes"], timeout_s=0.1)
            assert (result.exit_code, result.reason) == (137, ExitReason.TIMEOUT)

    @pytest.mark.parametrize(
        "call",
        [
            lambda link: link.exec(["true"], user="root"),
            lambda link: link.detach(["true"]),
            lambda link: link.session(["true"]).open(),
            lambda link: link.attach("s1", read_only=True).open(),
            lambda link: link.attach("s1", takeover=False).open(),
            lambda link: link.attach("s1", since=0).open(),
        ],
        ids=["user", "detach", "piped session", "read-only", "no takeover", "cursor"],
    )
    async def test_what_it_would_silently_ignore_is_refused(
        self, tmp_path: Path, new_link: NewLink, call: "asyncio.Future[object]"
    ) -> None:
        async with listening(tmp_path / "agent", old_agent):
            with pytest.raises(GuestFailure, match="too old") as caught:
                await call(new_link())  # type: ignore[operator]
            assert caught.value.code == "unsupported"


class TestTrouble:
    """Agents that misbehave, die or fall silent in the middle."""

    async def test_an_agent_that_does_not_keep_the_time_is_helped(self, tmp_path: Path, new_link: NewLink) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.EXEC_REQ)
            await peer.expect(FrameType.KILL)
            await peer.send(FrameType.EXIT, encode_exit(137))
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            link = new_link(deadlines=Deadlines(kill_grace_s=0.5))
            result = await link.exec(["sleep", "60"], timeout_s=0.01)
            assert result.reason is ExitReason.TIMEOUT

    async def test_an_agent_that_does_not_even_kill_is_given_up(self, tmp_path: Path, new_link: NewLink) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.EXEC_REQ)
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            link = new_link(deadlines=Deadlines(kill_grace_s=0.05))
            with pytest.raises(GuestTimeout):
                await link.exec(["sleep", "60"], timeout_s=0.01)

    async def test_an_agent_whose_output_has_no_end_is_given_up(self, tmp_path: Path, new_link: NewLink) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.EXEC_REQ)
            with contextlib.suppress(ConnectionError):
                while True:
                    await peer.send(FrameType.STDOUT, b"x" * (MEBIBYTE >> 1))

        async with listening(tmp_path / "agent", script):
            link = new_link(deadlines=Deadlines(kill_grace_s=0.05))
            with pytest.raises(GuestTimeout, match=r"without an end of a command that was given 0\.01 s"):
                await link.exec(["yes"], timeout_s=0.01)

    async def test_a_late_end_is_the_end_that_it_says(self, tmp_path: Path, new_link: NewLink) -> None:
        read = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.EXEC_REQ)
            await peer.send(FrameType.STDOUT, b"x")
            await read.wait()
            await peer.send(FrameType.EXIT, encode_exit(0))
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            link = new_link(deadlines=Deadlines(kill_grace_s=0))
            async with link.stream(["slow"], timeout_s=60) as stream:
                assert await anext(stream) == Stdout(b"x")
                stream._until = asyncio.get_running_loop().time()  # as if its reader had taken a minute
                read.set()
                await until(lambda: bool(stream._channel.interrupted))
                assert await anext(stream) == Exit(0, ExitReason.EXITED)

    async def test_a_guest_that_dies_silently_ends_a_command_without_timeout(
        self, tmp_path: Path, new_link: NewLink
    ) -> None:
        async def script(peer: Peer) -> None:
            kind, _ = await peer.frame()
            if kind == FrameType.HELLO_REQ:
                await peer.send(FrameType.HELLO_RESP, b'{"features":["keep-alive"]}')
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            link = new_link(deadlines=Deadlines(probe_after_s=0.05, probe_reply_s=0.05))
            with pytest.raises(GuestTimeout):
                await link.exec(["sleep", "60"])

    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            (b"", "connection-lost"),
            (encode(FrameType.STDOUT, b"half")[:-1], "connection-lost"),
            (b"\xff" * 64, "protocol-violation"),
            (bytes(4), "protocol-violation"),
            (encode(FrameType.EXIT, b"\0\0"), "protocol-violation"),
            (encode(FrameType.EXIT, encode_exit(0, b"not json")), "protocol-violation"),
            (encode(FrameType.ACTIVITY_RESP, b"{}"), "protocol-violation"),
        ],
        ids=["nothing", "half a frame", "garbage", "zero length", "short EXIT", "bad exit info", "wrong frame"],
    )
    async def test_a_broken_answer_is_an_error_at_once(
        self, tmp_path: Path, new_link: NewLink, answer: bytes, code: str
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.EXEC_REQ)
            await peer.send_raw(answer)

        async with listening(tmp_path / "agent", script):
            with pytest.raises(Unavailable) as caught:
                await new_link().exec(["true"])
            assert caught.value.code == code
