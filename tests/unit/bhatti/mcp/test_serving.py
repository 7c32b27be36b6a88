import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import anyio
import pytest
from mcp import Client, StdioServerParameters
from tests.daemons import ROOT, Daemon
from tests.unit.bhatti.mcp.conftest import Agent

from bhatti import AsyncSandbox
from bhatti.errors import BhattiError
from bhatti.mcp.serving import over_http

pytestmark = pytest.mark.anyio

TOOLS = {
    "create_sandbox",
    "list_sandboxes",
    "run",
    "read_file",
    "write_file",
    "list_files",
    "fork_sandbox",
    "checkpoint_sandbox",
    "publish_port",
    "destroy_sandbox",
}


@contextlib.contextmanager
def server(env: dict[str, str], *arguments: str, stderr: int | None = None) -> Iterator["subprocess.Popen[str]"]:
    """`bhatti mcp` as a process, ended by a signal."""
    command = [sys.executable, "-m", "bhatti", "mcp", *arguments]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


async def address(process: "subprocess.Popen[str]") -> str:
    """Where a server over HTTP says that it listens."""
    assert process.stdout is not None
    return (await anyio.to_thread.run_sync(process.stdout.readline)).strip()


async def names(served: Daemon) -> set[str]:
    return {sandbox.name for sandbox in await AsyncSandbox.list(url=str(served.endpoint))}


async def test_a_client_over_stdio_has_the_tools_and_leaves_nothing(served: Daemon, env: dict[str, str]) -> None:
    """Nothing: neither its sandbox, nor the server's process, nor a command that was running."""
    parameters = StdioServerParameters(command=sys.executable, args=["-m", "bhatti", "mcp"], env=env, cwd=ROOT)
    async with await AsyncSandbox.create("bystander", url=str(served.endpoint)) as sandbox:
        async with sandbox.stream("mkfifo pid; echo ready; cat pid") as waiting:
            assert (await anext(waiting)).text == "ready\n"
            async with Client(parameters) as client:
                agent = Agent(client)
                assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
                await agent.call("create_sandbox", name="passing")
                async with anyio.create_task_group() as tasks:
                    command = "echo $$ $(ps -o ppid= -p $$) > pid; exec sleep 600"
                    tasks.start_soon(lambda: agent.answer("run", sandbox="bystander", command=command))
                    pid = (await anext(waiting)).text.split()[0]
                    tasks.cancel_scope.cancel()
        assert (await sandbox.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=60)).ok
        assert await names(served) == {"bystander"}


@pytest.mark.timeout(120)
async def test_clients_over_http_share_the_sandboxes_which_end_with_the_server(
    served: Daemon, env: dict[str, str]
) -> None:
    with server(env, "--http", "0", stderr=subprocess.PIPE) as process:
        url = await address(process)
        async with Client(url) as client:
            await Agent(client).call("create_sandbox", name="shared")
        async with Client(url) as client:
            done = await Agent(client).call("run", sandbox="shared", command="echo here")
            assert done["stdout"] == "here\n"
        assert "shared" in await names(served)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert await anyio.to_thread.run_sync(process.stderr.read) == ""
    assert "shared" not in await names(served)


ALONE = """
import sys, anyio, mcp

async def main():
    async with mcp.Client(sys.argv[1]) as client:
        await client.call_tool("run", {"sandbox": "busy", "command": "echo $$ > pid; exec sleep 600"})

anyio.run(main)
"""
"""A client that waits for a long command."""


@pytest.mark.timeout(120)  # three processes that import the protocol's library
async def test_a_client_over_http_that_is_gone_without_a_word_takes_its_command_with_it_and_leaves_its_sandbox(
    served: Daemon, env: dict[str, str]
) -> None:
    with server(env, "--http", "0") as process:
        url = await address(process)
        async with Client(url) as client:
            await Agent(client).call("create_sandbox", name="busy")
        async with await AsyncSandbox.connect("busy", url=str(served.endpoint)) as sandbox:
            async with sandbox.stream("mkfifo pid; echo ready; cat pid") as waiting:
                assert (await anext(waiting)).text == "ready\n"
                alone = await anyio.open_process([sys.executable, "-c", ALONE, url], env=env)
                pid = (await anext(waiting)).text.strip()
                alone.kill()
                await alone.wait()
                await alone.aclose()
            assert (await sandbox.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=60)).ok
            assert (await sandbox.inspect()).status == "running"


async def test_a_signal_ends_it_while_its_client_is_still_there(env: dict[str, str]) -> None:
    with server(env) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write('{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        process.stdin.flush()
        assert '"id":1' in await anyio.to_thread.run_sync(process.stdout.readline)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])
async def test_it_listens_to_this_machine_alone(host: str) -> None:
    with pytest.raises(BhattiError) as caught:
        await over_http(host, 0, print)
    assert caught.value.code == "bad-address"


async def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BhattiError) as caught:
        await over_http("127.0.0.1", taken.getsockname()[1], print)
    assert caught.value.code == "port-taken"
