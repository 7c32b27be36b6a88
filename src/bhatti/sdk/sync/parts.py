"""What a `Sandbox` has in it: `files`, `sessions` and `ports`."""

import os
from collections.abc import Sequence

from bhatti.operations import types
from bhatti.sdk.flows import Entries, Flows, Listening, Publications
from bhatti.sdk.forwarding import Forward
from bhatti.sdk.results import FileStat
from bhatti.sdk.sync.driver import Driver
from bhatti.sdk.sync.streams import Terminal
from bhatti.sdk.sync.watch import Watch
from bhatti.sdk.talks import TerminalTalk, as_bytes, terminal_query

Local = str | os.PathLike[str]
"""A path of this machine."""


class Files:
    """Files of a sandbox. Relative paths begin where commands run, `/workspace` in most images.

    >>> sb.files.write_text("greeting.txt", "hello")
    >>> sb.run("cat greeting.txt").stdout
    'hello'
    """

    def __init__(self, driver: Driver, flows: Flows) -> None:
        self._driver = driver
        self._flows = flows

    def read(self, path: str) -> bytes:
        """Return what is in a file.

        >>> sb.files.write("data.bin", b"1 2")
        >>> sb.files.read("data.bin")
        b'1 2'
        """
        return self._driver.run(self._flows.read(path))

    def read_text(self, path: str, encoding: str = "utf-8") -> str:
        """Return what is in a text file; raises `UnicodeDecodeError` if it is not in that encoding."""
        return self.read(path).decode(encoding)

    def write(self, path: str, data: bytes | str, *, mode: int = 0o644) -> None:
        """Write a file, which appears whole or not at all; missing directories are made.

        >>> sb.files.write("bin/hi", "#!/bin/sh\\necho hi", mode=0o755)
        >>> sb.run("./bin/hi").stdout
        'hi\\n'
        """
        self._driver.run(self._flows.write(path, as_bytes(data), mode))

    def write_text(self, path: str, text: str, encoding: str = "utf-8", *, mode: int = 0o644) -> None:
        """Write a text file, as `write` does."""
        self.write(path, text.encode(encoding), mode=mode)

    def list(self, path: str = ".") -> Entries:
        """Return the files of a directory.

        >>> sb.files.write("a/one.txt", "1")
        >>> [(entry.name, entry.size) for entry in sb.files.list("a")]
        [('one.txt', 1)]
        """
        return self._driver.run(self._flows.list(path))

    def stat(self, path: str) -> FileStat:
        """Return what a file is; raises `GuestFailure` or `NotFound` if there is none.

        >>> sb.files.write("notes.txt", "12345")
        >>> sb.files.stat("notes.txt").size
        5
        """
        return self._driver.run(self._flows.stat(path))

    def mkdir(self, path: str, *, mode: int = 0o755) -> None:
        """Make a directory and those above it that are missing; one that is there will do.

        >>> sb.files.mkdir("results/today")
        >>> sb.files.stat("results/today").is_dir
        True
        """
        self._driver.run(self._flows.mkdir(path, mode))

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file or an empty directory; with `recursive`, a directory with all that is in it.

        Raises `NotFound` if there is nothing, `Conflict` (code `directory-not-empty`).

        >>> sb.files.write("cache/one", "1")
        >>> sb.files.remove("cache", recursive=True)
        >>> "cache" in [entry.name for entry in sb.files.list()]
        False
        """
        self._driver.run(self._flows.remove(path, recursive))

    def move(self, source: str, target: str) -> None:
        """Give a file or directory another name, also on another volume; a file replaces a file.

        >>> sb.files.write("draft.txt", "words")
        >>> sb.files.move("draft.txt", "done/final.txt")
        >>> sb.files.read_text("done/final.txt")
        'words'
        """
        self._driver.run(self._flows.move(source, target))

    def copy(self, source: str, target: str) -> None:
        """Copy a file or directory within the sandbox; the copy has its name when it is complete.

        >>> sb.files.write("original/file", "1")
        >>> sb.files.copy("original", "twin")
        >>> sb.files.read_text("twin/file")
        '1'
        """
        self._driver.run(self._flows.copy(source, target))

    def watch(self, path: str = ".", *, recursive: bool = False, timeout: float | None = None) -> Watch:
        """Return what happens to a file, a directory, or all below it, as it happens; for `timeout` seconds at most.

        >>> sb.files.mkdir("inbox")
        >>> with sb.files.watch("inbox", timeout=60) as changes:
        ...     sb.files.mkdir("inbox/letter")
        ...     change = next(changes)
        >>> change.change, change.is_dir
        ('created', True)
        """
        query = self._driver.run(self._flows.watch(path, recursive, timeout))
        return Watch(self._driver.endpoint, self._flows.info.id, query)

    def upload(self, local: Local, path: str) -> None:
        """Copy a file of this machine, or a directory with all that is in it, to `path` in the sandbox.

        Modes and links stay as they are. A directory is merged with one that is there.
        """
        self._driver.run(self._flows.upload(os.fspath(local), path))

    def download(self, path: str, local: Local) -> None:
        """Copy a file of the sandbox, or a directory with all that is in it, to `local` on this machine.

        Modes and links stay as they are. Nothing that the sandbox sends is written outside of `local`.
        """
        self._driver.run(self._flows.download(path, os.fspath(local)))


class Sessions:
    """Terminals of a sandbox: they outlive whoever looks at them.

    >>> with sb.sessions.open("read name; echo hello $name") as terminal:
    ...     terminal.write("world\\n")
    ...     output = b"".join(terminal)
    >>> output.splitlines()[-1], terminal.exit_code
    (b'hello world', 0)
    """

    def __init__(self, driver: Driver, flows: Flows) -> None:
        self._driver = driver
        self._flows = flows

    def list(self) -> "SessionList":
        """Return the sessions that run.

        >>> with sb.sessions.open("cat") as terminal:
        ...     terminal.session_id in [session.session_id for session in sb.sessions.list()]
        True
        """
        return self._driver.run(self._flows.sessions())

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
        """Open a terminal: a login shell, or another program.

        It ends `max_idle` seconds after the last one has left it.
        """
        query = terminal_query(command, rows=rows, cols=cols, cwd=cwd, user=user, max_idle_sec=max_idle)
        return Terminal(self._driver.endpoint, TerminalTalk(self._flows.info.id, query))

    def attach(self, session_id: str, *, since: int | None = None, read_only: bool = False) -> Terminal:
        """Come back to a terminal: what was there is shown again, from byte `since` on if that is given.

        >>> with sb.sessions.open("cat") as terminal:
        ...     left = terminal.session_id
        >>> with sb.sessions.attach(left) as terminal:
        ...     terminal.write("still here\\n")
        ...     terminal.read()[:10]
        b'still here'
        """
        query = types.TerminalQuery(session=session_id, since=since, read_only=read_only)
        return Terminal(self._driver.endpoint, TerminalTalk(self._flows.info.id, query))

    def kill(self, session_id: str) -> None:
        """End a terminal or a command that runs: its program and all it has started. Raises `NotFound`.

        >>> with sb.sessions.open("cat") as terminal:
        ...     sb.sessions.kill(terminal.session_id)
        ...     rest = list(terminal)
        >>> terminal.exit_code
        137
        """
        self._driver.run(self._flows.kill_session(session_id))


SessionList = list[types.Session]


class Ports:
    """Ports of a sandbox.

    >>> import socket
    >>> code = "import socket; s = socket.create_server(('', 0)); print(s.getsockname()[1])"
    >>> code += "; s.accept()[0].sendall(b'hi')"
    >>> with sb.stream(["python3", "-uc", code]) as server:
    ...     port = int(next(server).text)
    ...     print(port in [found.container_port for found in sb.ports.list()])
    ...     with sb.ports.forward(port) as here, socket.create_connection(here.address) as connection:
    ...         connection.recv(2)
    True
    b'hi'
    """

    def __init__(self, driver: Driver, flows: Flows) -> None:
        self._driver = driver
        self._flows = flows

    def list(self) -> Listening:
        """Return the ports on which programs in the sandbox listen."""
        return self._driver.run(self._flows.ports())

    def url(self, port: int) -> str:
        """Return where a published port is; raises `NotFound` (code `not-published`) if it is not published.

        >>> sb.publish(8000).url == sb.ports.url(8000)
        True
        """
        return self._driver.run(self._flows.url(port))

    def published(self) -> Publications:
        """Return what is published of the sandbox.

        >>> publication = sb.publish(8000, alias="my-page")
        >>> [(found.port, found.alias) for found in sb.ports.published()]
        [(8000, 'my-page')]
        """
        return self._driver.run(self._flows.published())

    def forward(self, port: int, local_port: int = 0) -> Forward:
        """Have a port of the sandbox on this machine, for the block: at `address`, or for browsers `url`.

        `local_port` 0 is any that is free. Many may connect at once; the sandbox is woken for them.
        """
        return Forward(self._driver.endpoint, self._flows.info.id, port, local_port)
