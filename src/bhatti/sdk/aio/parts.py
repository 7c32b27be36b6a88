"""What an `AsyncSandbox` has in it: `files`, `sessions` and `ports`.

Methods are described at more length where they block, in `sdk.sync.parts`.
"""

import os
from collections.abc import Sequence

from bhatti.operations import types
from bhatti.sdk.aio.driver import Driver
from bhatti.sdk.aio.forwarding import AsyncForward
from bhatti.sdk.aio.streams import Terminal
from bhatti.sdk.aio.watch import Watch
from bhatti.sdk.flows import Entries, Flows, Listening, Publications
from bhatti.sdk.results import FileStat
from bhatti.sdk.talks import TerminalTalk, as_bytes, terminal_query

Local = str | os.PathLike[str]
"""A path of this machine."""


class Files:
    """Files of a sandbox. Relative paths begin where commands run, `/workspace` in most images.

    >>> await sb.files.write("bin/hi", "#!/bin/sh\\necho hi", mode=0o755)
    >>> (await sb.run("./bin/hi")).stdout
    'hi\\n'
    >>> [(entry.name, entry.size) for entry in await sb.files.list("bin")]
    [('hi', 17)]
    >>> await sb.files.read_text("bin/hi")
    '#!/bin/sh\\necho hi'
    """

    def __init__(self, driver: Driver, flows: Flows) -> None:
        self._driver = driver
        self._flows = flows

    async def read(self, path: str) -> bytes:
        """Return what is in a file."""
        return await self._driver.run(self._flows.read(path))

    async def read_text(self, path: str, encoding: str = "utf-8") -> str:
        """Return what is in a text file; raises `UnicodeDecodeError` if it is not in that encoding."""
        return (await self.read(path)).decode(encoding)

    async def write(self, path: str, data: bytes | str, *, mode: int = 0o644) -> None:
        """Write a file, which appears whole or not at all; missing directories are made."""
        await self._driver.run(self._flows.write(path, as_bytes(data), mode))

    async def write_text(self, path: str, text: str, encoding: str = "utf-8", *, mode: int = 0o644) -> None:
        """Write a text file, as `write` does."""
        await self.write(path, text.encode(encoding), mode=mode)

    async def list(self, path: str = ".") -> Entries:
        """Return the files of a directory."""
        return await self._driver.run(self._flows.list(path))

    async def stat(self, path: str) -> FileStat:
        """Return what a file is; raises `GuestFailure` or `NotFound` if there is none."""
        return await self._driver.run(self._flows.stat(path))

    async def mkdir(self, path: str, *, mode: int = 0o755) -> None:
        """Make a directory and those above it that are missing; one that is there will do."""
        await self._driver.run(self._flows.mkdir(path, mode))

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file or an empty directory; with `recursive`, a directory with all that is in it."""
        await self._driver.run(self._flows.remove(path, recursive))

    async def move(self, source: str, target: str) -> None:
        """Give a file or directory another name, also on another volume; a file replaces a file."""
        await self._driver.run(self._flows.move(source, target))

    async def copy(self, source: str, target: str) -> None:
        """Copy a file or directory within the sandbox; the copy has its name when it is complete."""
        await self._driver.run(self._flows.copy(source, target))

    def watch(self, path: str = ".", *, recursive: bool = False, timeout: float | None = None) -> Watch:
        """Return what happens to a file, a directory, or all below it, as it happens; for `timeout` seconds at most.

        >>> await sb.files.mkdir("inbox")
        >>> async with sb.files.watch("inbox", timeout=60) as changes:
        ...     await sb.files.mkdir("inbox/letter")
        ...     change = await anext(changes)
        >>> change.change, change.is_dir
        ('created', True)
        """
        return Watch(self._driver, self._flows, self._flows.watch(path, recursive, timeout))

    async def upload(self, local: Local, path: str) -> None:
        """Copy a file of this machine, or a directory with all that is in it, to `path` in the sandbox."""
        await self._driver.run(self._flows.upload(os.fspath(local), path))

    async def download(self, path: str, local: Local) -> None:
        """Copy a file of the sandbox, or a directory with all that is in it, to `local` on this machine."""
        await self._driver.run(self._flows.download(path, os.fspath(local)))


class Sessions:
    """Terminals of a sandbox: they outlive whoever looks at them.

    >>> async with sb.sessions.open("cat") as terminal:
    ...     left = terminal.session_id
    >>> left in [session.session_id for session in await sb.sessions.list()]
    True
    >>> async with sb.sessions.attach(left) as terminal:
    ...     await terminal.write("still here\\n")
    ...     print((await terminal.read())[:10])
    b'still here'
    """

    def __init__(self, driver: Driver, flows: Flows) -> None:
        self._driver = driver
        self._flows = flows

    async def list(self) -> "SessionList":
        """Return the sessions that run."""
        return await self._driver.run(self._flows.sessions())

    def open(
        self,
        command: str | Sequence[str] | None = None,
        *,
        rows: int = 24,
        cols: int = 80,
        cwd: str | None = None,
        user: str | None = None,
        max_idle: int = 3600,
    ) -> Terminal:
        """Open a terminal: a login shell, or another program."""
        query = terminal_query(command, rows=rows, cols=cols, cwd=cwd, user=user, max_idle_sec=max_idle)
        return Terminal(self._driver.endpoint, TerminalTalk(self._flows.info.id, query))

    def attach(self, session_id: str, *, since: int | None = None, read_only: bool = False) -> Terminal:
        """Come back to a terminal: what was there is shown again, from byte `since` on if that is given."""
        query = types.TerminalQuery(session=session_id, since=since, read_only=read_only)
        return Terminal(self._driver.endpoint, TerminalTalk(self._flows.info.id, query))

    async def kill(self, session_id: str) -> None:
        """End a terminal or a command that runs: its program and all it has started. Raises `NotFound`."""
        await self._driver.run(self._flows.kill_session(session_id))


SessionList = list[types.Session]


class Ports:
    """Ports of a sandbox.

    >>> import asyncio
    >>> code = "import socket; s = socket.create_server(('', 0)); print(s.getsockname()[1])"
    >>> code += "; s.accept()[0].sendall(b'hi')"
    >>> async with sb.stream(["python3", "-uc", code]) as server:
    ...     port = int((await anext(server)).text)
    ...     print(port in [found.container_port for found in await sb.ports.list()])
    ...     async with sb.ports.forward(port) as here:
    ...         reader, writer = await asyncio.open_connection(*here.address)
    ...         print(await reader.read(2))
    ...         writer.close()
    True
    b'hi'
    """

    def __init__(self, driver: Driver, flows: Flows) -> None:
        self._driver = driver
        self._flows = flows

    async def list(self) -> Listening:
        """Return the ports on which programs in the sandbox listen."""
        return await self._driver.run(self._flows.ports())

    async def url(self, port: int) -> str:
        """Return where a published port is; raises `NotFound` (code `not-published`) if it is not published."""
        return await self._driver.run(self._flows.url(port))

    async def published(self) -> Publications:
        """Return what is published of the sandbox.

        >>> publication = await sb.publish(8000, alias="my-page")
        >>> publication.url == await sb.ports.url(8000)
        True
        >>> [(found.port, found.alias) for found in await sb.ports.published()]
        [(8000, 'my-page')]
        >>> await sb.unpublish(8000)
        """
        return await self._driver.run(self._flows.published())

    def forward(self, port: int, local_port: int = 0) -> AsyncForward:
        """Have a port of the sandbox on this machine, for the block: at `address`, or for browsers `url`."""
        return AsyncForward(self._driver.endpoint, self._flows.info.id, port, local_port)
