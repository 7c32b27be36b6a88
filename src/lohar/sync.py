"""What a host asks before it takes a snapshot: that everything is on the disks."""

from __future__ import annotations

import os
import time

from lohar.operation import Operation
from lohar.wire.frames import FrameType
from lohar.wire.messages import SyncResponse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.connection import Connection
    from lohar.worker import Worker


class Sync(Operation):
    """SYNC under way, in the worker: a disk may take its time, and terminals go on."""

    __slots__ = ("_began", "_worker")

    def __init__(self, connection: Connection, worker: Worker) -> None:
        super().__init__(connection)
        self._worker = worker
        self._began = time.monotonic()

    def begin(self) -> None:
        """Start to write back."""
        self._worker.submit(os.sync, self._synced)

    def _synced(self, _error: OSError | None) -> None:
        if self.connection.operation is self:
            duration = int((time.monotonic() - self._began) * 1000)
            self.connection.send(FrameType.SYNC_RESP, SyncResponse(duration_ms=duration).to_json())
            self.connection.finish()
