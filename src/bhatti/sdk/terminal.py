"""A terminal in a sandbox, joined to this process's own terminal."""

import json
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from bhatti.errors import Unavailable
from bhatti.sdk.endpoint import Endpoint, escaped
from bhatti.sdk.execution import conversation, told
from bhatti.sdk.pump import Broken, Pump
from bhatti.sdk.signals import caught, pending
from bhatti.sdk.websocket import BINARY, TEXT

DETACH_KEY = b"\x1c"
"""Ctrl+backslash."""

DETACHED = -1
"""What `run` returns when the person has detached."""


class Terminal:
    """One conversation with a terminal. Entering it connects; `run` joins it to descriptors 0 and 1."""

    def __init__(
        self,
        endpoint: Endpoint,
        ref: str,
        *,
        rows: int,
        cols: int,
        command: list[str],
        session: str | None = None,
        read_only: bool = False,
        user: str | None = None,
        cwd: str | None = None,
    ) -> None:
        self.session_id = session or ""
        self._endpoint = endpoint
        self._ref = ref
        self._query: dict[str, str] = {"rows": str(rows), "cols": str(cols)}
        optional = {"session": session, "user": user, "cwd": cwd, "cmd": json.dumps(command) if command else None}
        self._query |= {key: value for key, value in optional.items() if value}
        if read_only:
            self._query["read_only"] = "true"
        self._stack = ExitStack()
        self._connected: tuple[socket.socket, bytes] | None = None
        self._exit_code: int | None = None
        self._error: dict[str, str] | None = None

    def __enter__(self) -> Self:
        from urllib.parse import urlencode

        target = f"/sandboxes/{escaped(self._ref)}/ws?{urlencode(self._query)}"
        self._connected = conversation(self._endpoint, target)
        self._stack.enter_context(self._connected[0])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, *, size: Callable[[], tuple[int, int]], stdin: int = 0) -> int:
        """Carry bytes both ways until the program ends, and return its exit code, or `DETACHED`.

        `size` is asked whenever the window changes, `stdin` is where the person types. Raises the daemon's errors.
        """
        assert self._connected is not None
        sock, rest = self._connected
        pump = Pump(sock, rest)

        def on_signals() -> None:
            pending(signals)
            rows, cols = size()
            pump.send(TEXT, json.dumps({"type": "resize", "rows": rows, "cols": cols}).encode())

        with caught([signal.SIGWINCH]) as signals:
            pump.watch(signals, on_signals)
            try:
                pump.run(self._on_message, lambda data: self._on_input(pump, data), stdin=stdin)
            except Broken as err:
                raise Unavailable(
                    f"the terminal's connection was lost: {err}",
                    hint=f"its session lives on: bhatti shell {self._ref} --session {self.session_id}",
                    code="connection-lost",
                ) from err
        if self._error is not None:
            raise told(self._error)
        return DETACHED if self._exit_code is None else self._exit_code

    def _on_input(self, pump: Pump, data: bytes) -> None:
        typed, key, _ = data.partition(DETACH_KEY)
        if typed:
            pump.send(BINARY, typed)
        if key or not data:  # the key, or the end of our own terminal
            pump.stop()

    def _on_message(self, opcode: int, data: bytes) -> bool:
        if opcode == BINARY:
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]
            return False
        event = json.loads(data)
        if event["type"] == "session":
            self.session_id = event["session_id"]
            return False
        if event["type"] == "error":
            self._error = event
        else:
            self._exit_code = event.get("exit_code") or 0
        return True
