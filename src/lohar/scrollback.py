"""What a session has said: its last bytes, of which stream each is, and a cursor into them for every reader."""

from __future__ import annotations

from collections import deque

from lohar.ring import Ring

MAX_SEGMENTS = 2048
"""How often the stream may change within what is kept. A program that writes single bytes to stdout and stderr in turn
would otherwise need a hundred times its output in bookkeeping; it loses its oldest output earlier instead."""


class Scrollback:
    """A ring of bytes with their kinds (STDOUT or STDERR). Positions count the bytes of both together."""

    __slots__ = ("_ring", "_segments")

    def __init__(self, capacity: int) -> None:
        self._ring = Ring(capacity)
        self._segments: deque[tuple[int, int]] = deque()  # (position after its last byte, kind), oldest first

    @property
    def start(self) -> int:
        """Position of the oldest byte that is kept."""
        return self._ring.start

    @property
    def total(self) -> int:
        """How many bytes there ever were."""
        return self._ring.total

    @property
    def capacity(self) -> int:
        """How many bytes are kept."""
        return self._ring.capacity

    def write(self, kind: int, data: bytes) -> None:
        """Append output of one stream."""
        ring, segments = self._ring, self._segments
        ring.write(data)
        if segments and segments[-1][1] == kind:
            segments[-1] = (ring.total, kind)
        else:
            segments.append((ring.total, kind))
        if len(segments) > MAX_SEGMENTS:
            ring.forget(segments[0][0])
        while segments[0][0] <= ring.start and len(segments) > 1:
            segments.popleft()

    def read(self, position: int, size: int) -> tuple[int, bytes]:
        """Return the kind of the byte at `position`, and up to `size` bytes of that kind from there on.

        Raises `ValueError` if that byte is not kept. At `total` there are no bytes, of any kind.
        """
        found = (position, 0)
        for segment in reversed(self._segments):  # readers are near the end, mostly at it
            if segment[0] <= position:
                break
            found = segment
        end, kind = found
        return kind, self._ring.read(position, min(size, end - position))
