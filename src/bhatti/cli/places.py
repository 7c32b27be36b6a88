"""Paths of a sandbox as a person writes them: a relative one begins where commands run, as it does for the SDK."""

import posixpath

from bhatti.errors import BhattiError, InvalidRequest
from bhatti.operations import table, types
from bhatti.sdk.client import Client


class Places:
    """The paths of one sandbox, which is asked for its working directory once, and only if a path is relative."""

    def __init__(self, client: Client, sandbox: str) -> None:
        self._client = client
        self._sandbox = sandbox
        self._directory: str | None = None

    def absolute(self, path: str) -> str:
        """Return `path` as the API wants it; raises `InvalidRequest` (code `bad-path`), and the daemon's errors.

        An empty path stays empty, for the daemon to refuse.
        """
        if not path or path.startswith("/"):
            return path
        directory = self.directory(path)
        return directory if path in (".", "./") else posixpath.join(directory, path)

    def directory(self, path: str = ".") -> str:
        """Return where commands run in the sandbox, `/workspace` in most images; `path` is who wants to know."""
        if self._directory is None:
            # `pwd` and not $PWD: the daemon does not know the directory, and an image may have no shell.
            try:
                said = self._client.call(table.EXEC, types.ExecRequest(cmd=["pwd"]), id=self._sandbox)
            except BhattiError as err:
                if err.code != "command-not-found":
                    raise
                raise InvalidRequest(
                    f"{path!r} is a relative path, and sandbox {self._sandbox!r} has no `pwd` to say where that begins",
                    hint="write all of the path, from / on",
                    code="bad-path",
                ) from err
            self._directory = said.stdout.removesuffix("\n") or "/"
        return self._directory
