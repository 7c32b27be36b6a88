"""The tools that agents are given, on `AsyncSandbox`. Their docstrings are what the agent's model reads."""

import functools
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Annotated, ParamSpec, Self, TypeVar

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from bhatti.errors import BhattiError
from bhatti.mcp.answers import CheckpointInfo, FileContent, FileInfo, Published, RunResult, SandboxInfo
from bhatti.sdk.aio.sandbox import AsyncSandbox

P = ParamSpec("P")
R = TypeVar("R")

CLEAN_UP_S = 60.0
"""For destroying what was made, when the server ends. Expected: some tenths of a second, however many there are."""

MAX_OUTPUT_BYTES = 4 << 20
"""Kept of each stream of a command, of which the agent is shown the beginning and the end."""

INSTRUCTIONS = """\
Each sandbox is a Linux machine of its own, with root by sudo, where anything may be run and broken. Make one with
`create_sandbox` and name it in every other call. Commands and relative paths begin in the same directory. Fork a
prepared sandbox to try several things at once. What you make is destroyed when this server ends, unless it is made with
`keep`."""

Named = Annotated[str, Field(description="The sandbox's name or id")]
Keep = Annotated[bool, Field(description="Let it outlive this server; destroy it yourself then")]
Seconds = Annotated[float, Field(gt=0, le=3600, description="After so many seconds the command is ended")]


def told(tool: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Tell the agent of bhatti's errors: what, the stable code, and what to do."""

    @functools.wraps(tool)
    async def call(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return await tool(*arguments, **named)
        except BhattiError as error:
            hint = f"\nhint: {error.advice}" if error.advice else ""
            raise ToolError(f"{error.code}: {error.message}{hint}") from error

    return call


class Tools:
    """The tools of one server, and the sandboxes that end with it: leaving the block destroys them."""

    def __init__(self) -> None:
        self._owned: dict[str, AsyncSandbox] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Destroy the sandboxes that are not to be kept. Idempotent; not cancelled from outside."""
        owned, self._owned = self._owned, {}
        with anyio.move_on_after(CLEAN_UP_S, shield=True):
            async with anyio.create_task_group() as tasks:
                for sandbox in owned.values():
                    tasks.start_soon(sandbox.destroy)

    def server(self) -> MCPServer:
        """Return a server that has these tools."""
        server = MCPServer("bhatti", instructions=INSTRUCTIONS, log_level="WARNING")
        for tool in (
            self.create_sandbox,
            self.list_sandboxes,
            self.run,
            self.read_file,
            self.write_file,
            self.list_files,
            self.fork_sandbox,
            self.checkpoint_sandbox,
            self.publish_port,
            self.destroy_sandbox,
        ):
            server.add_tool(told(tool))
        return server

    async def create_sandbox(
        self,
        name: str | None = None,
        image: str | None = None,
        cpus: int | None = None,
        memory_mb: int | None = None,
        env: dict[str, str] | None = None,
        keep: Keep = False,
    ) -> SandboxInfo:
        """Make a sandbox and wait until it can be used. Everything that is not given has a sensible default."""
        made = await AsyncSandbox.create(name, image=image, cpus=cpus, memory_mb=memory_mb, env=env)
        return self._made(made, keep=keep)

    async def list_sandboxes(self) -> list[SandboxInfo]:
        """List all sandboxes, the newest first."""
        return [SandboxInfo.of(sandbox.info) for sandbox in await AsyncSandbox.list()]

    async def run(
        self,
        sandbox: Named,
        command: Annotated[str, Field(description="For `sh -c`, so pipes and `&&` work")],
        timeout_s: Seconds = 120.0,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        stdin: str | None = None,
    ) -> RunResult:
        """Run a shell command and wait for its end. Returns exit code, reason, stdout and stderr.

        After `timeout_s` it is ended with all it has started (reason `timeout`), and what it said so far is returned.
        Of long output you see the beginning and the end. Start what is to go on with `nohup … >log 2>&1 &`.
        """
        async with await AsyncSandbox.connect(sandbox) as found:
            result = await found.run(
                command, timeout=timeout_s, cwd=cwd, env=env, stdin=stdin, max_output_bytes=MAX_OUTPUT_BYTES
            )
        return RunResult.of(result)

    async def read_file(
        self,
        sandbox: Named,
        path: str,
        offset: Annotated[int, Field(ge=0, description="Characters to skip; bytes of a file that is no text")] = 0,
    ) -> FileContent:
        """Read a file. What is not UTF-8 text comes as base64. A long file comes in parts: go on with `offset`."""
        async with await AsyncSandbox.connect(sandbox) as found:
            data = await found.files.read(path)
        return FileContent.of(data, offset)

    async def write_file(
        self,
        sandbox: Named,
        path: str,
        content: str,
        executable: bool = False,
    ) -> str:
        """Write a text file, which appears whole or not at all. Directories above it are made."""
        async with await AsyncSandbox.connect(sandbox) as found:
            await found.files.write(path, content, mode=0o755 if executable else 0o644)
        return f"{len(content.encode())} bytes written to {path}"

    async def list_files(self, sandbox: Named, path: str = ".") -> list[FileInfo]:
        """List the files of a directory."""
        async with await AsyncSandbox.connect(sandbox) as found:
            entries = await found.files.list(path)
        return [
            FileInfo(name=entry.name, size_bytes=entry.size, mode=entry.mode, is_dir=entry.is_dir) for entry in entries
        ]

    async def fork_sandbox(
        self,
        sandbox: Named,
        name: Annotated[str | None, Field(description="Of the new sandbox")] = None,
        checkpoint: Annotated[str | None, Field(description="Go on from this one, not from what it is now")] = None,
        keep: Keep = False,
    ) -> SandboxInfo:
        """Make a sandbox that goes on from where another is: with its disk, memory and processes."""
        async with await AsyncSandbox.connect(sandbox) as found:
            made = await found.fork(name, checkpoint=checkpoint)
        return self._made(made, keep=keep)

    async def checkpoint_sandbox(self, sandbox: Named, name: str) -> CheckpointInfo:
        """Keep a copy of a sandbox as it is now, to fork from."""
        async with await AsyncSandbox.connect(sandbox) as found:
            kept = await found.checkpoint(name)
        return CheckpointInfo(name=kept.name, size_bytes=kept.size_bytes)

    async def publish_port(
        self,
        sandbox: Named,
        port: Annotated[int, Field(ge=1, le=65_535, description="Where a web server in the sandbox listens")],
        alias: Annotated[str | None, Field(description="The name in the address; made up if not given")] = None,
    ) -> Published:
        """Publish a port of a sandbox: an address for browsers, for everybody who knows it. Requests wake the sandbox.

        The server in the sandbox must listen on that port, on any address, and can be started before or after.
        """
        async with await AsyncSandbox.connect(sandbox) as found:
            publication = await found.publish(port, alias=alias)
        return Published(url=publication.url, alias=publication.alias, port=publication.port)

    async def destroy_sandbox(self, sandbox: Named) -> str:
        """End a sandbox and remove all that is in it. This cannot be undone."""
        async with await AsyncSandbox.connect(sandbox) as found:
            await found.destroy()
        self._owned.pop(found.id, None)
        return f"{found.name} is gone"

    def _made(self, made: AsyncSandbox, *, keep: bool) -> SandboxInfo:
        if not keep:
            self._owned[made.id] = made
        return SandboxInfo.of(made.info)
