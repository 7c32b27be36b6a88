"""A client of the wire for tests: blocking, small, and able to say anything, also what is wrong.

It knows frames and nothing else, so that a test sees what is really on the wire. The same client serves an agent on
unix sockets and one inside a virtual machine.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from lohar.wire.frames import FrameParser, FrameType, encode, encode_resize, parse_exit

if TYPE_CHECKING:
    from collections.abc import Callable

SLOWNESS = float(os.environ.get("BHATTI_TEST_SLOWNESS", "1"))
"""How much slower than this host the agent's machine may be: an emulated one runs at a tenth."""

PATIENCE_S = 10.0
"""How long any answer may take on this host: a hundred times what it does when it is quiet."""


class Closed(Exception):
    """The agent has closed the connection."""


@dataclass
class Result:
    """What a piped command did."""

    code: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    info: dict[str, Any] = field(default_factory=dict)
    error: str = ""


class Connection:
    """One connection to an agent. Every wait has an end; running into it fails the test."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._parser = FrameParser()
        self._frames: list[tuple[int, bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, kind: int, payload: bytes = b"") -> None:
        """Send a frame."""
        self.sock.sendall(encode(kind, payload))

    def send_json(self, kind: int, **message: object) -> None:
        """Send a frame with a JSON object in it."""
        self.send(kind, json.dumps(message).encode())

    def send_raw(self, data: bytes) -> None:
        """Send bytes that may be no frame at all."""
        self.sock.sendall(data)

    def send_until_full(self, kind: int, payload: bytes, at_most: int) -> int:
        """Send the same frame over and over until the agent takes no more, or `at_most` bytes; return how many."""
        frame = encode(kind, payload)
        sent = 0
        # Full is not what blocks for a moment but what stays so.
        while sent < at_most and select.select([], [self.sock], [], 0.2)[1]:
            sent += self.sock.send(frame[sent % len(frame) :], socket.MSG_DONTWAIT)
        return sent

    def in_pieces(self) -> Self:
        """From now on receive content as it comes, in parts of frames; to be said before anything has come."""
        self._parser = FrameParser(pieces=True)
        return self

    def receive(self, patience_s: float = PATIENCE_S) -> tuple[int, bytes]:
        """Return the next frame. Raises `Closed` at the end of the stream, `TimeoutError` when nothing comes."""
        deadline = time.monotonic() + patience_s * SLOWNESS
        while not self._frames:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise TimeoutError(f"no frame within {patience_s} s")
            try:
                data = self.sock.recv(1 << 18)
            except ConnectionResetError as error:
                raise Closed from error
            if not data:
                raise Closed
            self._parser.feed(data)
            self._frames = self._parser.frames()
        return self._frames.pop(0)

    def expect(self, kind: int, patience_s: float = PATIENCE_S) -> bytes:
        """Return the payload of the next frame, which must be of this type."""
        found, payload = self.receive(patience_s)
        assert found == kind, f"expected {FrameType(kind).name}, got 0x{found:02x} {payload[:200]!r}"
        return payload

    def expect_json(self, kind: int) -> Any:  # noqa: ANN401 - JSON is anything
        """Return the decoded payload of the next frame, which must be of this type."""
        return json.loads(self.expect(kind))

    def receive_all(self, patience_s: float = PATIENCE_S) -> list[tuple[int, bytes]]:
        """Return all frames until the agent closes the connection."""
        frames = []
        try:
            while True:
                frames.append(self.receive(patience_s))
        except Closed:
            return frames

    def expect_closed(self, patience_s: float = PATIENCE_S) -> None:
        """Wait for the agent to close the connection; nothing else may come."""
        try:
            frame = self.receive(patience_s)
        except Closed:
            return
        raise AssertionError(f"expected the end, got {frame!r}")

    def ask(self, kind: int, answer: int, **message: object) -> Any:  # noqa: ANN401 - JSON is anything
        """Send a JSON request and return the decoded answer, which must be of the type `answer`."""
        self.send_json(kind, **message)
        return self.expect_json(answer)

    def ask_error(self, kind: int, **message: object) -> str:
        """Send a JSON request that must be refused; return the words."""
        self.send_json(kind, **message)
        return self.expect(FrameType.ERROR).decode()

    def hello(self) -> Any:  # noqa: ANN401 - JSON is anything
        """Say HELLO, after which the connection is kept; return the answer."""
        return self.ask(FrameType.HELLO_REQ, FrameType.HELLO_RESP, client="tests")

    # --- commands

    def start(self, *argv: str, **options: object) -> None:
        """Send EXEC_REQ."""
        self.send_json(FrameType.EXEC_REQ, argv=list(argv), **options)

    def exec(self, *argv: str, stdin: bytes | None = None, patience_s: float = PATIENCE_S, **options: object) -> Result:
        """Run a piped command to its end."""
        self.start(*argv, **options)
        if stdin is not None:
            for at in range(0, len(stdin), 1 << 15):
                self.send(FrameType.STDIN, stdin[at : at + (1 << 15)])
            self.send(FrameType.STDIN)
        return self.collect(patience_s)

    def collect(self, patience_s: float = PATIENCE_S) -> Result:
        """Gather what a command says until EXIT, or until ERROR."""
        result = Result()
        out: dict[int, list[bytes]] = {FrameType.STDOUT: [], FrameType.STDERR: []}
        deadline = time.monotonic() + patience_s * SLOWNESS
        while result.code is None and not result.error:
            kind, payload = self.receive(max(0.0, deadline - time.monotonic()) / SLOWNESS)
            if kind in out:
                out[kind].append(payload)
            elif kind == FrameType.EXIT:
                exit_ = parse_exit(payload)
                assert exit_ is not None
                result.code = exit_[0]
                result.info = json.loads(exit_[1]) if exit_[1] else {}
            elif kind == FrameType.ERROR:
                result.error = payload.decode()
            else:
                raise AssertionError(f"unexpected frame 0x{kind:02x} {payload[:200]!r}")
        result.stdout, result.stderr = b"".join(out[FrameType.STDOUT]), b"".join(out[FrameType.STDERR])
        return result

    # --- sessions

    def open_session(self, *argv: str, **options: object) -> dict[str, Any]:
        """Start a session on a terminal (or on pipes, with `session=True`) and return its SESSION_INFO."""
        if not options.get("session"):
            options = {"tty": True, **options}
        self.start(*argv, **options)
        return dict(self.expect_json(FrameType.SESSION_INFO))

    def attach(self, session_id: str, **options: object) -> dict[str, Any]:
        """Attach to a session and return its SESSION_INFO."""
        self.send_json(FrameType.EXEC_REQ, session_id=session_id, **options)
        return dict(self.expect_json(FrameType.SESSION_INFO))

    def type(self, text: str) -> None:
        """Type something on a terminal."""
        self.send(FrameType.STDIN, text.encode())

    def resize(self, rows: int, cols: int) -> None:
        """Change a terminal's size."""
        self.send(FrameType.RESIZE, encode_resize(rows, cols))

    def read_until(self, wanted: bytes, patience_s: float = PATIENCE_S) -> bytes:
        """Gather output until `wanted` is in it; return all of it."""
        return self.read_while(lambda seen: wanted not in seen, patience_s)

    def read_match(self, pattern: bytes, patience_s: float = PATIENCE_S) -> re.Match[bytes]:
        """Gather output until the pattern is found in it; return the match."""
        match = re.search(pattern, self.read_while(lambda seen: re.search(pattern, seen) is None, patience_s))
        assert match is not None
        return match

    def read_while(self, unfinished: Callable[[bytes], bool], patience_s: float = PATIENCE_S) -> bytes:
        """Gather output as long as `unfinished(output)`."""
        deadline = time.monotonic() + patience_s * SLOWNESS
        seen = b""
        while unfinished(seen):
            kind, payload = self.receive(max(0.0, deadline - time.monotonic()) / SLOWNESS)
            assert kind in (FrameType.STDOUT, FrameType.STDERR), f"got 0x{kind:02x} {payload!r} after {seen!r}"
            seen += payload
        return seen

    def read_to_exit(self, patience_s: float = PATIENCE_S) -> tuple[bytes, int]:
        """Gather output until EXIT; return it and the code."""
        result = self.collect(patience_s)
        assert result.code is not None, result.error
        return result.stdout, result.code

    # --- files

    def write_file(self, path: str, data: bytes, mode: str = "0644", frame: int = 32 << 10) -> None:
        """Upload a file, which must succeed."""
        self.send_json(FrameType.FILE_WRITE_REQ, path=path, mode=mode, size=len(data))
        for at in range(0, len(data), frame):
            self.send(FrameType.STDIN, data[at : at + frame])
        assert self.expect_json(FrameType.FILE_WRITE_RESP)["status"] == "ok"

    def read_file(self, path: str, **options: object) -> tuple[dict[str, Any], bytes]:
        """Download a file; return the answer and the content."""
        answer = self.ask(FrameType.FILE_READ_REQ, FrameType.FILE_READ_RESP, path=path, **options)
        result = self.collect()
        assert result.code == 0, result.error
        return answer, result.stdout

    def list_files(self, path: str, *, chunked: bool = False) -> list[dict[str, Any]]:
        """List a directory; with `chunked` in as many answers as it takes."""
        self.send_json(FrameType.FILE_LS_REQ, path=path, chunked=chunked)
        entries = list(self.expect_json(FrameType.FILE_LS_RESP))
        if chunked:
            while (frame := self.receive())[0] == FrameType.FILE_LS_RESP:
                entries += json.loads(frame[1])
            assert frame[0] == FrameType.EXIT
        return entries
