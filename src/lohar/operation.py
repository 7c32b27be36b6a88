"""What a connection is busy with: a command, an upload, a terminal.

A request that needs no more than its answer is served by a function. One that lives longer is an `Operation`: the
connection hands it what arrives until it calls `Connection.finish`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.connection import Connection


class Operation:
    """A request under way on `connection`. Every method has a default that suits a request without further input."""

    __slots__ = ("connection",)

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def begin(self) -> None:
        """Take the first step. The connection knows its operation by now, so this may `finish` it."""

    def frame(self, kind: int, payload: bytes) -> None:
        """Take a frame of the client's. Those that mean nothing here are ignored, as the reference does."""

    def end(self) -> None:
        """Learn that the client sends no more; it may still be reading."""

    def lost(self) -> None:
        """Learn that the client is gone. Free everything; nothing may be sent, and `finish` need not be called."""

    def drained(self) -> None:
        """Learn that the connection takes output again, after `Connection.congested` was true."""
