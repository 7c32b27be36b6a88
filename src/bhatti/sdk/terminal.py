"""A terminal in a sandbox, joined to this process's own terminal.

Theory of operation. The session belongs to the guest; we are a cursor into what it says. When the connection ends
before the session does (the network, a daemon that is restarted, a sandbox that is put to sleep), we come back with the
cursor, and the screen goes on at the byte where it stopped. What is typed meanwhile is kept and sent then. Coming back
wakes nobody: whoever has put the sandbox to sleep meant it. Typing does.
"""

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from bhatti.errors import Busy, Conflict, NotFound, Unavailable
from bhatti.sdk.endpoint import Endpoint, escaped
from bhatti.sdk.execution import conversation, told
from bhatti.sdk.pump import CHUNK_BYTES, Broken, Pump
from bhatti.sdk.signals import caught, pending
from bhatti.sdk.websocket import BINARY, TEXT

DETACH_KEY = b"\x1c"
"""Ctrl+backslash."""

DETACHED = -1
"""What `run` returns when the person has detached."""

TAKEN_OVER = -2
"""What `run` returns when somebody else has attached to the session, who types from then on."""

SIGNALS = (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP)

GIVE_UP_S = 600.0
"""Expected: a daemon is back in a second or two. A person may leave at any time, and come back later by hand."""

CONNECT_S = 30.0
"""What one attempt may take; a sandbox that wakes takes a second, one that boots from its disk some more."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
"""Between attempts: twice as long each time."""

QUIET_S = 1.0
"""What is over by then need not be told of: it would only disturb the screen."""

REDRAW_S = 2.0
"""How long a program has to draw its screen anew. Expected: some 10 ms; one that has no screen says nothing."""

TYPED_BYTES = 64 << 10
"""What is kept of the typing while there is no connection."""


class Terminal:
    """One person at one session. Entering it connects; `run` joins it to descriptors 0 and 1.

    `size` returns rows and columns of the person's own terminal. `tell` is called with what a person should know.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        ref: str,
        *,
        size: Callable[[], tuple[int, int]],
        command: list[str],
        session: str | None = None,
        read_only: bool = False,
        user: str | None = None,
        cwd: str | None = None,
        tell: Callable[[str], None] = lambda text: None,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        self.session_id = session or ""
        self._endpoint = endpoint
        self._ref = ref
        self._size = size
        self._read_only = read_only
        self._tell = tell
        self._give_up_s = give_up_s
        rows, cols = size()
        optional = {"session": session, "user": user, "cwd": cwd, "cmd": json.dumps(command) if command else None}
        self._query = {"rows": str(rows), "cols": str(cols), **{key: value for key, value in optional.items() if value}}
        if read_only:
            self._query["read_only"] = "true"
        self._attaching = session is not None
        self._stack = ExitStack()
        self._connected: tuple[socket.socket, bytes] | None = None
        self._cursor: int | None = None
        self._made_at: int | None = None
        self._typed = bytearray()
        self._begun = False
        self._redrawn_after: int | None = None
        self._outcome = DETACHED
        self._error: dict[str, str] | None = None
        self._lost_at: float | None = None
        self._pause_s = 0.0
        self._noticed = False

    def __enter__(self) -> Self:
        self._connect(self._query, None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, *, stdin: int = 0) -> int:
        """Carry bytes both ways until the program ends, and return its exit code, `DETACHED` or `TAKEN_OVER`.

        `stdin` is where the person types. Raises the daemon's errors, and `Unavailable` when a lost connection did not
        come back.
        """
        with caught(SIGNALS) as signals:
            while True:
                try:
                    return self._carry(stdin, signals)
                except (Unavailable, Conflict) as err:
                    if self._cursor is None:
                        raise
                    if not self._come_back(err, stdin, signals):
                        return DETACHED

    # --- while connected

    def _carry(self, stdin: int, signals: int) -> int:
        assert self._connected is not None
        self._begun, self._redrawn_after = False, None
        pump = Pump(*self._connected)
        pump.watch(signals, lambda: self._on_signals(pump, pending(signals)))
        try:
            pump.run(
                lambda *message: self._on_message(pump, *message), lambda data: self._on_input(pump, data), stdin=stdin
            )
        except Broken as err:
            raise Unavailable(f"the terminal's connection was lost: {err}", code="connection-lost") from err
        if self._error is not None:
            error, self._error = self._error, None
            raise told(error)
        return self._outcome

    def _on_signals(self, pump: Pump, numbers: list[int]) -> None:
        if set(numbers) - {signal.SIGWINCH}:
            pump.stop()
        else:
            self._resize(pump)

    def _on_input(self, pump: Pump, data: bytes) -> None:
        typed, key, _ = data.partition(DETACH_KEY)
        if self._read_only:
            pass
        elif self._begun:
            pump.send(BINARY, typed)
        else:
            self._keep(typed)  # behind what was typed before
        if key or not data:  # the key, or the end of our own terminal
            pump.stop()

    def _on_message(self, pump: Pump, opcode: int, data: bytes) -> bool:
        if opcode == BINARY:
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]
            self._cursor = (self._cursor or 0) + len(data)
            if self._redrawn_after is not None and self._cursor > self._redrawn_after:
                self._go_on(pump)
            return False
        event = json.loads(data)
        if event["type"] == "session":
            self._begin(pump, event)
            return False
        if event["type"] == "error":
            self._error = event
        else:
            self._outcome = TAKEN_OVER if event.get("reason") == "taken-over" else event.get("exit_code") or 0
        return True

    def _begin(self, pump: Pump, event: dict[str, Any]) -> None:
        """Take note of the session; after a loss, see to it that the screen becomes right again."""
        again = self._cursor is not None
        if again and (event["session_id"], event.get("created_at")) != (self.session_id, self._made_at):
            raise NotFound(
                f"the session {self.session_id!r} is gone: the sandbox was started anew",
                hint=f"bhatti shell {self._ref}",
                code="session-not-found",
            )
        self.session_id, self._made_at = event["session_id"], event.get("created_at")
        self._cursor = event.get("offset") or 0
        gap = event.get("gap") or 0
        if again and (gap or self._noticed):
            self._tell(f"connected again; {gap} bytes were missed" if gap else "connected again")
            if not self._read_only:
                self._redraw(pump, event.get("end") or self._cursor)
                return
        self._go_on(pump)

    def _redraw(self, pump: Pump, end: int) -> None:
        """Have a full-screen program draw all it has: show it another size until it says something after byte `end`.

        What has been typed waits for that. A slow program that finds both sizes and a key at once sees just the key.
        """
        self._redrawn_after = end
        self._resize(pump, less=1)
        pump.later(REDRAW_S, lambda: self._go_on(pump))

    def _go_on(self, pump: Pump) -> None:
        """Pass on what is typed, from what was kept of it on."""
        if self._begun:
            return
        self._redrawn_after = None
        if self._attaching:
            self._resize(pump)
        if self._typed:
            pump.send(BINARY, bytes(self._typed))
            self._typed.clear()
        self._attaching, self._begun = True, True  # whoever connects again attaches
        self._lost_at, self._pause_s, self._noticed = None, 0.0, False

    def _resize(self, pump: Pump, less: int = 0) -> None:
        rows, cols = self._size()
        if not self._read_only:
            size = {"type": "resize", "rows": rows, "cols": max(1, cols - less)}
            pump.send(TEXT, json.dumps(size).encode())

    # --- while not

    def _connect(self, query: dict[str, str], timeout_s: float | None) -> None:
        from urllib.parse import urlencode

        self._stack.close()
        target = f"/sandboxes/{escaped(self._ref)}/ws?{urlencode(query)}"
        self._connected = conversation(self._endpoint, target, timeout_s=timeout_s)
        self._stack.enter_context(self._connected[0])

    def _come_back(self, err: Exception, stdin: int, signals: int) -> bool:
        """Attach again where we were; False if the person leaves instead. Raises what makes it hopeless."""
        if self._lost_at is None:
            self._lost_at = time.monotonic()
        query = {"session": self.session_id, "since": str(self._cursor), "wake": "false"}
        if self._read_only:
            query["read_only"] = "true"
        asleep = False
        while self._stays(stdin, signals, self._pause_s, until_typed=asleep):
            if asleep and self._typed:
                query["wake"] = "true"
            try:
                self._connect(query, CONNECT_S)
            except (Unavailable, Busy) as problem:
                err, asleep = problem, False
            except Conflict as problem:
                if problem.code != "asleep":
                    raise
                asleep, self._lost_at = True, time.monotonic()
                self._notice("the sandbox is asleep; type to wake it (Ctrl+\\ leaves)")
            else:
                self._pause_s = max(self._pause_s, FIRST_PAUSE_S)  # for when it is lost before the session answers
                return True
            self._pause_s = min(max(self._pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            away_s = time.monotonic() - self._lost_at
            if away_s > QUIET_S and not asleep:
                self._notice(f"the connection was lost: {err}; trying to come back (Ctrl+\\ leaves)")
            if away_s > self._give_up_s:
                hint = f"its session lives on: bhatti shell {self._ref} --session {self.session_id}"
                raise Unavailable(f"the terminal's connection did not come back: {err}", hint=hint) from err
        return False

    def _keep(self, typed: bytes) -> None:
        self._typed += typed[: TYPED_BYTES - len(self._typed)]

    def _notice(self, text: str) -> None:
        if not self._noticed:
            self._noticed = True
            self._tell(text)

    def _stays(self, stdin: int, signals: int, seconds: float, *, until_typed: bool) -> bool:
        """Wait, keeping what is typed; say whether the person stays."""
        poll = select.poll()
        poll.register(stdin, select.POLLIN)
        poll.register(signals, select.POLLIN)
        end = time.monotonic() + seconds
        while True:
            left_ms = max(0.0, end - time.monotonic()) * 1000
            ready = [descriptor for descriptor, _ in poll.poll(left_ms)]
            if signals in ready and set(pending(signals)) - {signal.SIGWINCH}:
                return False
            if stdin in ready:
                data = _read(stdin)
                if not data or DETACH_KEY in data:
                    return False
                if not self._read_only:
                    self._keep(data)
                    if until_typed:
                        return True
            if time.monotonic() >= end:
                return True


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, CHUNK_BYTES)
    except OSError:  # a terminal that is not ours any more
        return b""
