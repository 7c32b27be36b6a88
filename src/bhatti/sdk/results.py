"""What calls of the SDK return, beside the answers of the API themselves."""

from typing import Literal

import msgspec

from bhatti.errors import GuestFailure

TIMEOUT = "timeout"
"""The reason of a command that was ended because its time was up."""


class Output(msgspec.Struct, frozen=True):
    """A piece of a command's output, as it came.

    `data` are the bytes; `text` is the same as UTF-8, except that a character cut in two by the end of a piece comes
    whole with the next one, and that what is no UTF-8 becomes U+FFFD.
    """

    stream: Literal["stdout", "stderr"]
    data: bytes
    text: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended, and all it said.

    `reason` is `exited`, `signalled`, `timeout`, `killed`, `oom` or `host-lost`; `truncated` says that output beyond
    the limit was dropped.
    """

    command: str
    exit_code: int
    stdout_bytes: bytes = b""
    stderr_bytes: bytes = b""
    reason: str = "exited"
    truncated: bool = False

    @property
    def stdout(self) -> str:
        """What it wrote to standard output, as text; what is no UTF-8 becomes U+FFFD."""
        return self.stdout_bytes.decode(errors="replace")

    @property
    def stderr(self) -> str:
        """What it wrote to standard error, as text; what is no UTF-8 becomes U+FFFD."""
        return self.stderr_bytes.decode(errors="replace")

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with 0."""
        return self.exit_code == 0 and self.reason == "exited"

    @property
    def timed_out(self) -> bool:
        """Whether it was ended because its time was up."""
        return self.reason == TIMEOUT

    def check(self) -> "Result":
        """Return this result if the command succeeded, else raise `CommandFailed`."""
        if not self.ok:
            raise CommandFailed(self)
        return self


class CommandFailed(GuestFailure):
    """A command that had to succeed did not. `result` says how it ended, and holds all it said."""

    code = "command-failed"

    def __init__(self, result: Result) -> None:
        ways = {"exited": f"ended with exit code {result.exit_code}", TIMEOUT: "was ended because its time was up"}
        words = [f"`{_short(result.command)}` {ways.get(result.reason, f'was ended: {result.reason}')}"]
        said = (result.stderr.strip() or result.stdout.strip()).splitlines()
        if said:
            words.append(_short(said[-1]))
        super().__init__(": ".join(words), hint="the error's `result` has all of its output")
        self.result = result


class Spawned(msgspec.Struct, frozen=True):
    """A command that goes on by itself: its process id, and the file of the sandbox with its output."""

    pid: int
    output_file: str


class FileStat(msgspec.Struct, frozen=True):
    """What a file of the sandbox is: its size in bytes, its mode as octal text, and when it was changed (unix time)."""

    size: int
    mode: str
    is_dir: bool
    mtime: int


class HttpAnswer(msgspec.Struct, frozen=True):
    """What a web server in the sandbox answered. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode(errors="replace")


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."
