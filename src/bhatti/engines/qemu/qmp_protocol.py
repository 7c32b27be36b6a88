"""The QEMU machine protocol without I/O: bytes in, messages out, bytes to send.

Theory of operation. QEMU greets, we answer with `qmp_capabilities`, and from its reply on commands may be sent; each
has an id and is answered once, in any order, while events come in between. The states and what moves them are the table
below. Whatever else arrives is a breach of protocol and ends the connection.

Source: docs/interop/qmp-spec.txt of QEMU.
"""

import enum
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bhatti.errors import Conflict, EngineFailure

MAX_LINE_BYTES = 1 << 20
"""Longest message that is believed; the longest that QEMU 7.2 sends us (query-commands) has 20 KiB."""


class State(enum.StrEnum):
    """How far the connection has come."""

    AWAITING_GREETING = "awaiting-greeting"
    NEGOTIATING = "negotiating"
    READY = "ready"
    CLOSED = "closed"


class Received(enum.StrEnum):
    """What kind of message came."""

    GREETING = "QMP"
    RETURN = "return"
    ERROR = "error"
    EVENT = "event"
    END = "end"


TRANSITIONS: dict[tuple[State, Received], State] = {
    (State.AWAITING_GREETING, Received.GREETING): State.NEGOTIATING,
    (State.AWAITING_GREETING, Received.END): State.CLOSED,
    (State.NEGOTIATING, Received.RETURN): State.READY,
    (State.NEGOTIATING, Received.EVENT): State.NEGOTIATING,
    (State.NEGOTIATING, Received.END): State.CLOSED,
    (State.READY, Received.RETURN): State.READY,
    (State.READY, Received.ERROR): State.READY,
    (State.READY, Received.EVENT): State.READY,
    (State.READY, Received.END): State.CLOSED,
    (State.CLOSED, Received.END): State.CLOSED,
}


@dataclass(frozen=True, slots=True)
class Ready:
    """Commands may be sent from now on; `version` is QEMU's, like `7.2.22`."""

    version: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the command with this id: a value, or an error's class and description."""

    id: int
    value: Any = None
    error_class: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened in QEMU."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)


Message = Ready | Reply | Event


class QmpProtocol:
    """One connection's state. `max_line_bytes` bounds one message."""

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self.state = State.AWAITING_GREETING
        self._max_line_bytes = max_line_bytes
        self._buffer = bytearray()
        self._outgoing = bytearray()
        self._last_id = 0
        self._version = ""

    def receive_data(self, data: bytes) -> list[Message]:
        """Take what came from the socket and return the messages it completes.

        Raises `EngineFailure` (code `monitor-protocol`) for what no QEMU sends; the connection is then `CLOSED`.
        """
        self._buffer += data
        messages = []
        try:
            while (end := self._buffer.find(b"\n")) >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                if line.strip():
                    message = self._receive_line(line)
                    if message is not None:
                        messages.append(message)
            if len(self._buffer) > self._max_line_bytes:
                raise _breach(f"a message of more than {self._max_line_bytes} bytes")
        except EngineFailure:
            self.state = State.CLOSED
            raise
        return messages

    def receive_end(self) -> None:
        """Note that the other side has closed."""
        self._move(Received.END)

    def execute(self, command: str, arguments: dict[str, Any] | None = None) -> int:
        """Queue a command and return its id. Raises `Conflict` (code `monitor-not-ready`) unless `READY`."""
        if self.state is not State.READY:
            raise Conflict(
                f"the monitor cannot take {command!r}: it is {self.state}",
                hint="connect and wait for the greeting first",
                code="monitor-not-ready",
            )
        return self._send(command, arguments)

    def data_to_send(self) -> bytes:
        """Return what must be written to the socket now, once."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def _send(self, command: str, arguments: dict[str, Any] | None) -> int:
        self._last_id += 1
        order: dict[str, Any] = {"execute": command, "id": self._last_id}
        if arguments is not None:
            order["arguments"] = arguments
        self._outgoing += msgspec.json.encode(order) + b"\n"
        return self._last_id

    def _move(self, received: Received) -> None:
        try:
            self.state = TRANSITIONS[self.state, received]
        except KeyError:
            raise _breach(f"{received.value!r} while {self.state}") from None

    def _receive_line(self, line: bytes) -> Message | None:
        try:
            fields = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise _breach(f"{line[:80]!r} ({error})") from error
        for kind in (Received.EVENT, Received.RETURN, Received.ERROR, Received.GREETING):
            if kind.value in fields:
                break
        else:
            raise _breach(f"{line[:80]!r}")
        negotiating = self.state is State.NEGOTIATING
        self._move(kind)
        try:
            if kind is Received.EVENT:
                return Event(str(fields["event"]), dict(fields.get("data", {})))
            if kind is Received.GREETING:
                version = fields["QMP"]["version"]["qemu"]
                self._version = f"{version['major']}.{version['minor']}.{version['micro']}"
                self._send("qmp_capabilities", None)
                return None
            if negotiating:
                return Ready(self._version)
            if kind is Received.RETURN:
                return Reply(int(fields["id"]), value=fields["return"])
            refusal = fields["error"]
            return Reply(int(fields["id"]), error_class=str(refusal["class"]), description=str(refusal["desc"]))
        except (KeyError, TypeError, ValueError) as error:
            raise _breach(f"{line[:80]!r} ({error!r})") from error


def _breach(seen: str) -> EngineFailure:
    return EngineFailure(
        f"the monitor does not speak QMP: {seen}", hint="is the socket another program's?", code="monitor-protocol"
    )
