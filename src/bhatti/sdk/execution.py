"""Run a command in a sandbox with this process's own input, output and signals, as if it ran here.

What `bhatti exec` and `bhatti run` do. Imports are kept few on purpose; see `sdk.connection`.
"""

import json
import os
import signal
import socket
from contextlib import closing

from bhatti.sdk.connection import Connection
from bhatti.sdk.endpoint import Endpoint, escaped
from bhatti.sdk.pump import Broken, Pump
from bhatti.sdk.signals import caught, pending
from bhatti.sdk.websocket import BINARY, TEXT, handshake

STDIN, STDOUT, STDERR, KILL = b"\x01", b"\x02", b"\x03", b"\x07"
"""First byte of each binary message: the type bytes of the guest's wire."""

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SIGPIPE_EXIT = 128 + signal.SIGPIPE
"""What a program returns whose reader has gone."""


class Execution:
    """One command. After `run`: `exit_code` as a shell would have it, `reason` as the guest told it."""

    def __init__(self, endpoint: Endpoint, ref: str, request: dict[str, object]) -> None:
        self._endpoint = endpoint
        self._ref = ref
        self._request = request
        self._descriptors = {STDOUT: 1, STDERR: 2}
        self._collected: dict[bytes, bytearray] | None = None
        self._signal: int | None = None
        self._reader_gone = False
        self._error: dict[str, str] | None = None
        self.exit_code = 0
        self.reason = ""

    def collect(self, kept: dict[bytes, bytearray]) -> None:
        """Keep the output in `kept`, by `STDOUT` and `STDERR`, instead of passing it on."""
        self._collected = kept

    def run(self, *, stdin: int | None = 0) -> int:
        """Run it and return its exit code; `stdin` is the descriptor of its input, None for none.

        SIGINT, SIGTERM and SIGHUP end the command in the sandbox (its whole process group); the code is then 128 +
        signal. Raises the daemon's errors, and `Unavailable` (code `connection-lost`).
        """
        sock, rest = conversation(self._endpoint, f"/sandboxes/{escaped(self._ref)}/exec/ws")
        with closing(sock), caught(FORWARDED) as signals:
            pump = Pump(sock, rest)
            pump.send(TEXT, json.dumps(self._request).encode())
            if stdin is None:
                pump.send(BINARY, STDIN)
            pump.watch(signals, lambda: self._on_signals(pump, pending(signals)))
            take = None if stdin is None else lambda data: pump.send(BINARY, STDIN + data)
            try:
                pump.run(lambda opcode, data: self._on_message(pump, opcode, data), take, stdin=stdin or 0)
            except Broken as err:
                raise _lost(err) from err
        if self._error is not None:
            raise told(self._error)
        if self._reader_gone:
            return SIGPIPE_EXIT
        return self.exit_code if self._signal is None else 128 + self._signal

    def _on_message(self, pump: Pump, opcode: int, data: bytes) -> bool:
        if opcode == BINARY:
            self._write(pump, data[:1], data[1:])
            return False
        event = json.loads(data)
        if event["type"] == "error":
            self._error = event
        else:
            self.exit_code = event["exit_code"]
            self.reason = event.get("reason", "")
        return True

    def _write(self, pump: Pump, kind: bytes, data: bytes) -> None:
        if self._collected is not None:
            self._collected[kind] += data
            return
        descriptor = self._descriptors.get(kind)
        if descriptor is None or self._reader_gone:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
        except BrokenPipeError:
            # As for any program in a pipeline: whoever writes to nobody is ended.
            self._reader_gone = True
            pump.send(BINARY, KILL)

    def _on_signals(self, pump: Pump, numbers: list[int]) -> None:
        for number in numbers:
            if self._signal is not None:
                pump.stop()  # asked twice: do not wait for the sandbox; leaving ends the command too
            self._signal = number
            pump.send(BINARY, KILL)


def conversation(endpoint: Endpoint, target: str, *, timeout_s: float | None = None) -> tuple[socket.socket, bytes]:
    """Begin a WebSocket conversation, within `timeout_s`; return its socket, and the bytes that came already.

    Raises the daemon's error if it refuses.
    """
    connection = Connection(endpoint, timeout_s=timeout_s)
    answer = connection.upgrade(target, handshake())
    if isinstance(answer, tuple):
        return answer
    with closing(connection):
        raise told(json.loads(answer.read()))


def told(body: dict[str, str]) -> Exception:
    """Return the error that the daemon told of, by an answer's body or an event."""
    from bhatti.errors import ErrorBody, from_body

    error, code = body.get("error", "no reason given"), body.get("code", "no-reason-given")
    return from_body(0, ErrorBody(error, code, body.get("hint"), body.get("request_id"), body.get("kind")))


def _lost(err: Broken) -> Exception:
    from bhatti.errors import Unavailable

    return Unavailable(
        f"the command's connection was lost: {err}",
        hint="the command has been ended with it; `bhatti ls` shows whether the sandbox still runs",
        code="connection-lost",
    )
