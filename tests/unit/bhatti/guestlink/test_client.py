import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.unit.bhatti.guestlink.conftest import AgentProcess, NewLink, running_agent, until
from tests.unit.bhatti.guestlink.peers import Peer, listening, old_agent

from bhatti.errors import GuestFailure, GuestTimeout, Unavailable
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.deadlines import Deadlines
from bhatti.guestlink.transports import UnixTransport
from lohar.wire.frames import FrameType
from lohar.wire.messages import Feature, Identity, IdentityResponse, Resumed

pytestmark = pytest.mark.anyio

Call = Callable[[GuestLink], Coroutine[Any, Any, object]]

CALLS: dict[str, Call] = {
    "exec": lambda link: link.exec(["true"]),
    "detach": lambda link: link.detach(["true"]),
    "shell": lambda link: link.shell(["sh"]).open(),
    "sessions": lambda link: link.sessions(),
    "kill_session": lambda link: link.kill_session("s1"),
    "read_file": lambda link: link.read_file("/a"),
    "write_file": lambda link: link.write_file("/a", b"x"),
    "stat": lambda link: link.stat("/a"),
    "list_dir": lambda link: link.list_dir("/"),
    "watch": lambda link: link.watch("/").__aenter__(),
    "activity": lambda link: link.activity(),
    "facts": lambda link: link.facts(),
    "identity": lambda link: link.identity(Identity(generation=1, clock_ns=1, entropy=bytes(32))),
    "resumed": lambda link: link.resumed(),
    "sync": lambda link: link.sync(),
}
"""Every question that can be put to an agent."""

IMPATIENT = Deadlines(
    connect_s=0.05, reply_s=0.05, stall_s=0.05, sync_s=0.05, probe_after_s=0.05, probe_reply_s=0.05, kill_grace_s=0.05
)


class TestReadiness:
    async def test_a_running_agent_is_ready(self, link: GuestLink) -> None:
        hello = await link.wait_ready(timeout_s=60)
        assert hello.agent.startswith("lohar/")
        assert hello.revision == 2
        assert set(hello.features) >= {Feature.KEEP_ALIVE, Feature.STDIN_END, Feature.EXIT_INFO}
        assert await link.hello() == hello

    async def test_no_agent_is_a_timeout(self, new_link: NewLink) -> None:
        with pytest.raises(GuestTimeout):
            await new_link().wait_ready(timeout_s=0.2)

    async def test_an_agent_that_starts_meanwhile_is_waited_for(self, tmp_path: Path) -> None:
        async with GuestLink(UnixTransport(tmp_path / "control")) as link, anyio.create_task_group() as tasks:
            ready = anyio.Event()

            async def wait() -> None:
                await link.wait_ready(timeout_s=60)
                ready.set()

            tasks.start_soon(wait)
            await anyio.sleep(0.02)  # one or two attempts that find nobody
            with running_agent(tmp_path):
                await ready.wait()


class TestEveryCall:
    """None of them waits for ever, whatever the other side does."""

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_a_silent_agent_is_given_up(self, tmp_path: Path, new_link: NewLink, call: Call) -> None:
        async def script(peer: Peer) -> None:
            kind, _ = await peer.frame()
            if kind == FrameType.HELLO_REQ:
                await peer.send(FrameType.HELLO_RESP, b'{"features":["exec-options","exit-info"]}')
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            link = new_link(deadlines=IMPATIENT)
            with pytest.raises(GuestTimeout):
                await call(link)
            assert not link._pool._busy, "no connection is left behind"

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_a_guest_that_is_not_there_is_unreachable(self, new_link: NewLink, call: Call) -> None:
        with pytest.raises(Unavailable) as caught:
            await call(new_link())
        assert caught.value.code == "guest-unreachable"

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_a_guest_that_dies_under_it_is_lost(self, tmp_path: Path, new_link: NewLink, call: Call) -> None:
        async def script(peer: Peer) -> None:
            kind, _ = await peer.frame()
            if kind == FrameType.HELLO_REQ:
                await peer.send(FrameType.HELLO_RESP, b'{"features":["exec-options","exit-info"]}')

        async with listening(tmp_path / "agent", script):
            link = new_link()
            with pytest.raises(Unavailable) as caught:
                await call(link)
            assert caught.value.code == "connection-lost"
            assert not link._pool._busy

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_cancelling_leaves_no_connection_behind(self, tmp_path: Path, new_link: NewLink, call: Call) -> None:
        asked = anyio.Event()

        async def script(peer: Peer) -> None:
            kind, _ = await peer.frame()
            if kind == FrameType.HELLO_REQ:
                await peer.send(FrameType.HELLO_RESP, b'{"features":["exec-options","exit-info"]}')
            else:
                asked.set()
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            link = new_link()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call, link)
                await asked.wait()
                tasks.cancel_scope.cancel()
            assert not link._pool._busy


class TestMachine:
    async def test_activity_counts_sessions_and_remembers_use(self, link: GuestLink) -> None:
        await link.exec(["true"])
        async with link.shell(["sleep", "60"]):
            activity = await link.activity()
            assert (activity.active_sessions, activity.attached_sessions) == (1, 1)
            assert abs(activity.last_activity_unix - time.time()) < 60

    async def test_facts_show_what_runs(self, link: GuestLink) -> None:
        async with link.stream(["sleep", "60"]):
            facts = await link.facts()
            assert [process.name for process in facts.processes] == ["sleep"]
            assert facts.memory_total > facts.memory_available > 0
            assert len(facts.load) == 3

    async def test_sync_says_how_long_it_took(self, link: GuestLink) -> None:
        assert (await link.sync()).duration_ms >= 0

    @pytest.mark.parametrize("call", [CALLS[name] for name in ("facts", "identity", "resumed", "sync", "watch")])
    async def test_an_old_agent_says_what_it_cannot(self, tmp_path: Path, new_link: NewLink, call: Call) -> None:
        async with listening(tmp_path / "agent", old_agent):
            with pytest.raises(GuestFailure, match="unexpected frame type") as caught:
                await call(new_link())
            assert caught.value.code == "unsupported"

    async def test_an_old_agent_lists_its_sessions(self, tmp_path: Path, new_link: NewLink) -> None:
        async with listening(tmp_path / "agent", old_agent):
            assert await new_link().sessions() == []

    async def test_a_session_list_that_cannot_be_decoded_is_a_violation(
        self, tmp_path: Path, new_link: NewLink
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.EXEC_LIST_REQ)
            await peer.send(FrameType.EXEC_LIST_RESP, b"[{}]")
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            with pytest.raises(Unavailable, match=r"EXEC_LIST_RESP: \[0\]\.session_id: missing"):
                await new_link().sessions()

    async def test_a_new_identity_brings_the_token_for_all_that_follows(
        self, tmp_path: Path, new_link: NewLink
    ) -> None:
        identity = Identity(generation=3, clock_ns=1, entropy=bytes(32), token="fresh")
        connections: list[list[int]] = []

        async def script(peer: Peer) -> None:
            connections.append([])
            with contextlib.suppress(anyio.EndOfStream):
                while True:
                    kind, payload = await peer.frame()
                    connections[-1].append(kind)
                    if kind == FrameType.HELLO_REQ:
                        await peer.send(FrameType.HELLO_RESP, b'{"features":["identity"]}')
                    elif kind == FrameType.IDENTITY_REQ:
                        assert Identity.from_json(payload) == identity
                        await peer.send(FrameType.IDENTITY_RESP, IdentityResponse(generation=3).to_json())
                    elif kind == FrameType.AUTH:
                        assert payload == b"fresh"
                    else:
                        await peer.send(FrameType.ACTIVITY_RESP, b"{}")

        async with listening(tmp_path / "agent", script):
            link = new_link()
            assert await link.identity(identity) == IdentityResponse(generation=3)
            await link.activity()
        assert connections[-1] == [FrameType.AUTH, FrameType.ACTIVITY_REQ]

    async def test_resumed_tells_the_time_and_gives_entropy_on_a_new_connection(
        self, tmp_path: Path, new_link: NewLink
    ) -> None:
        seen: list[Resumed] = []

        async def script(peer: Peer) -> None:
            kind, payload = await peer.frame()
            if kind == FrameType.HELLO_REQ:
                await peer.send(FrameType.HELLO_RESP, b'{"features":["keep-alive","resumed"]}')
            else:
                seen.append(Resumed.from_json(payload))
                await peer.send(FrameType.RESUMED_RESP, b'{"generation":4,"closed_connections":2}')
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            link = new_link()
            await link.hello()
            answer = await link.resumed(generation=4)
            await link.resumed(generation=4)
        assert (answer.generation, answer.closed_connections) == (4, 2)
        first, second = seen
        assert abs(first.clock_ns - time.time_ns()) < 5e9
        assert len(first.entropy) >= 32
        assert first.entropy != second.entropy


class TestConnections:
    async def test_dropping_them_ends_what_waits_and_the_next_call_works(self, link: GuestLink) -> None:
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(Unavailable) as caught:
                    await link.exec(["sleep", "60"])
                assert caught.value.code == "connection-lost"

            tasks.start_soon(wait)
            while not link._pool._busy:
                await anyio.lowlevel.checkpoint()
            link.drop_connections()
        assert (await link.exec(["echo", "again"])).stdout == b"again\n"

    async def test_closing_kills_commands_and_may_be_repeated(self, agent: AgentProcess) -> None:
        link = GuestLink(UnixTransport(agent.control, agent.forward))
        stream = link.stream(["sleep", "60"])
        await stream.open()
        await until(lambda: bool(agent.children()))
        await link.aclose()
        await link.aclose()
        await until(lambda: not agent.children())
        stream.close()

    async def test_an_agent_that_is_killed_is_an_error_and_not_a_hang(
        self, agent: AgentProcess, link: GuestLink
    ) -> None:
        async with link.stream(["sh", "-c", "echo $$; sleep 60"]) as stream:
            event = await anext(stream)
            agent.process.kill()
            with pytest.raises(Unavailable):
                await anext(stream)
        os.killpg(int(event.data), signal.SIGKILL)  # type: ignore[union-attr]

    async def test_a_frozen_agent_is_a_timeout_and_not_a_hang(self, agent: AgentProcess) -> None:
        deadlines = Deadlines(reply_s=1.0, stall_s=0.1, probe_after_s=0.1, probe_reply_s=0.1)
        async with GuestLink(UnixTransport(agent.control), deadlines=deadlines) as link:
            await link.hello()
            agent.process.send_signal(signal.SIGSTOP)
            try:
                for call in (link.activity, lambda: link.exec(["true"]), lambda: link.read_file("/etc/passwd")):
                    with pytest.raises(GuestTimeout):
                        await call()
            finally:
                agent.process.send_signal(signal.SIGCONT)

    async def test_two_hundred_calls_at_once_are_all_answered(self, link: GuestLink) -> None:
        answers = []

        async def ask() -> None:
            answers.append(await link.activity())

        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(ask)
        assert len(answers) == 200

    async def test_a_host_that_dies_leaves_no_command_behind(self, agent: AgentProcess) -> None:
        program = f"""
import asyncio
from pathlib import Path
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.transports import UnixTransport
link = GuestLink(UnixTransport(Path({str(agent.control)!r})))
asyncio.run(link.exec(["sleep", "60"]))
"""
        host = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
        await until(lambda: bool(agent.children()))
        host.kill()
        await host.wait()
        await until(lambda: not agent.children())

    async def test_the_link_works_over_tcp_behind_the_agents_back(self, agent: AgentProcess) -> None:
        from bhatti.guestlink.transports import TcpTransport

        async def relay(stream: anyio.abc.SocketStream) -> None:
            async with stream, await anyio.connect_unix(agent.control) as far, anyio.create_task_group() as both:

                async def pump(source: anyio.abc.SocketStream, target: anyio.abc.SocketStream) -> None:
                    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                        async for data in source:
                            await target.send(data)
                    both.cancel_scope.cancel()

                both.start_soon(pump, stream, far)
                both.start_soon(pump, far, stream)

        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as server,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(server.serve, relay)
            port = server.extra(anyio.abc.SocketAttribute.local_port)
            async with GuestLink(TcpTransport("127.0.0.1", ports={1024: port})) as link:
                assert (await link.exec(["cat"], stdin=bytes(1 << 20))).stdout == bytes(1 << 20)
            tasks.cancel_scope.cancel()


def test_importing_the_link_needs_nothing_of_linux_alone() -> None:
    program = "import socket; del socket.SO_BINDTODEVICE; import bhatti.guestlink.client"
    if not hasattr(socket, "SO_BINDTODEVICE"):
        program = "import bhatti.guestlink.client"
    subprocess.run([sys.executable, "-c", program], check=True)
