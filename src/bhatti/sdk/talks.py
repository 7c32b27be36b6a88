"""The two conversations over WebSockets, without I/O: a command, and a terminal.

Both are the same to a driver: connect to `target`, send `opening`, give every message to `receive`, stop at `done`.
What `sdk.execution` and `sdk.terminal` do for the command line with this process's own descriptors, the SDK does with
values.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal
from urllib.parse import urlencode

import msgspec

from bhatti.errors import Unavailable
from bhatti.operations import types
from bhatti.sdk.endpoint import escaped
from bhatti.sdk.execution import KILL, STDERR, STDIN, STDOUT, told
from bhatti.sdk.results import Output, Result
from bhatti.sdk.websocket import BINARY, TEXT

Message = tuple[int, bytes]
"""Opcode and payload of a WebSocket message."""

PIECE_BYTES = 256 << 10
"""Of input per message; what the daemon takes is a frame of the guest's wire, 1 MiB."""

SHELL = ("sh", "-c")


def argv(command: str | Sequence[str]) -> list[str]:
    """Return the command line of `command`: a text is what a shell is to run, anything else the arguments."""
    return [*SHELL, command] if isinstance(command, str) else list(command)


def terminal_query(
    command: str | Sequence[str] | None, *, rows: int, cols: int, cwd: str | None, user: str | None, max_idle_sec: int
) -> types.TerminalQuery:
    """Return how a new terminal begins; without `command`, with a login shell."""
    cmd = None if command is None else json.dumps(argv(command))
    return types.TerminalQuery(rows=rows, cols=cols, cmd=cmd, cwd=cwd, user=user, max_idle_sec=max_idle_sec)


def shown(command: str | Sequence[str]) -> str:
    """Return `command` for people to read."""
    return command if isinstance(command, str) else " ".join(command)


def as_bytes(data: bytes | str) -> bytes:
    """Return text as UTF-8, and bytes as they are."""
    return data.encode() if isinstance(data, str) else data


def lost(what: str, err: Exception) -> Unavailable:
    """Return the error that tells of a conversation's broken connection."""
    return Unavailable(
        f"the connection of {what} was lost: {err}",
        hint="`bhatti ls` shows whether the sandbox still runs",
        code="connection-lost",
    )


class CommandTalk:
    """A command: `Output` comes until `done`; then `exit_code` and `reason` are known."""

    def __init__(self, ref: str, request: types.ExecRequest) -> None:
        self.what = f"`{shown(request.cmd)}`"
        self.target = f"/sandboxes/{escaped(ref)}/exec/ws"
        self.opening: list[Message] = [(TEXT, msgspec.json.encode(request))]
        self.done = False
        self.exit_code: int | None = None
        self.reason = ""
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {STDOUT: decoder(errors="replace"), STDERR: decoder(errors="replace")}

    def receive(self, opcode: int, payload: bytes) -> Output | None:
        """Take a message; return the output in it. Raises the error with which the command could not be run."""
        if opcode == BINARY:
            kind, data = payload[:1], payload[1:]
            name: Literal["stdout", "stderr"] = "stderr" if kind == STDERR else "stdout"
            return Output(name, data, self._decoders[kind].decode(data))
        self.done = True
        event = json.loads(payload)
        if event["type"] == "error":
            raise told(event)
        self.exit_code = event.get("exit_code") or 0
        self.reason = event.get("reason") or "exited"
        return None

    def input(self, data: bytes) -> list[Message]:
        """Return the messages that give `data` to the command."""
        return [(BINARY, STDIN + data[at : at + PIECE_BYTES]) for at in range(0, len(data), PIECE_BYTES)]

    def end_of_input(self) -> Message:
        """Return the message after which there is no more input."""
        return (BINARY, STDIN)

    def kill(self) -> Message:
        """Return the message that ends the command and all it has started."""
        return (BINARY, KILL)


class TerminalTalk:
    """A terminal: bytes come until `done`; then `exit_code` is known, if the program has ended."""

    def __init__(self, ref: str, query: types.TerminalQuery) -> None:
        self.what = f"a terminal of {ref!r}"
        given = msgspec.to_builtins(query)  # without what is as it would be anyway
        texts = {name: str(value).lower() if value is True else str(value) for name, value in given.items()}
        self.target = f"/sandboxes/{escaped(ref)}/ws?{urlencode(texts)}"
        self.opening: list[Message] = []
        self.done = False
        self.exit_code: int | None = None
        self.session_id = query.session or ""
        self.offset = 0
        self.gap = 0
        self.begun = False

    def receive(self, opcode: int, payload: bytes) -> bytes | None:
        """Take a message; return the terminal's bytes in it. Raises the error with which the terminal ended."""
        if opcode == BINARY:
            self.offset += len(payload)
            return payload
        event = json.loads(payload)
        if event["type"] == "session":
            self.session_id = event["session_id"]
            self.offset = event.get("offset") or 0
            self.gap = event.get("gap") or 0
            self.begun = True
            return None
        self.done = True
        if event["type"] == "error":
            raise told(event)
        self.exit_code = event.get("exit_code") or 0
        return None

    def typed(self, data: bytes) -> list[Message]:
        """Return the messages that type `data`."""
        return [(BINARY, data[at : at + PIECE_BYTES]) for at in range(0, len(data), PIECE_BYTES)]

    def resize(self, rows: int, cols: int) -> Message:
        """Return the message that gives the terminal another size."""
        return (TEXT, json.dumps({"type": "resize", "rows": rows, "cols": cols}).encode())


def pieces(stdin: bytes | str | Iterable[bytes] | None, interactive: bool) -> Iterable[bytes] | None:
    """Return a command's input in pieces: none at all without `stdin`, or None if it comes by `write`."""
    if stdin is None:
        return None if interactive else ()
    return (as_bytes(stdin),) if isinstance(stdin, bytes | str) else stdin


def fed(talk: CommandTalk, given: Iterable[bytes]) -> Iterator[Message]:
    """Yield the messages that give a command its whole input."""
    for piece in given:
        yield from talk.input(piece)
    yield talk.end_of_input()


class Collector:
    """Gathers the output of a command into a `Result`, up to `max_output_bytes` of each stream."""

    def __init__(self, max_output_bytes: int) -> None:
        self._max = max_output_bytes
        self._kept = {"stdout": bytearray(), "stderr": bytearray()}
        self._truncated = False

    def take(self, output: Output) -> None:
        """Keep a piece, or what of it there is room for."""
        kept = self._kept[output.stream]
        room = self._max - len(kept)
        self._truncated = self._truncated or len(output.data) > room
        kept += output.data[:room]

    def result(self, command: str | Sequence[str], talk: CommandTalk) -> Result:
        """Return what became of the command."""
        return Result(
            command=shown(command),
            exit_code=talk.exit_code or 0,
            stdout_bytes=bytes(self._kept["stdout"]),
            stderr_bytes=bytes(self._kept["stderr"]),
            reason=talk.reason,
            truncated=self._truncated,
        )
