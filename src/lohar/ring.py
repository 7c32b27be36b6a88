"""The last bytes of a stream, addressed by their position since its beginning."""

from __future__ import annotations


class Ring:
    """Keeps the last `capacity` bytes written to it. Memory is taken as bytes come, never more than `capacity`.

    `total` counts every byte ever written, so the bytes that are kept have the positions `start` to `total`. That
    at position p lies at p % capacity.
    """

    __slots__ = ("_buffer", "capacity", "start", "total")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a ring of {capacity} bytes")
        self.capacity = capacity
        self.start = 0
        """Position of the oldest byte that is kept."""
        self.total = 0
        self._buffer = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`, at the cost of the oldest bytes."""
        capacity = self.capacity
        total = self.total + len(data)
        self.start = max(self.start, total - capacity)
        # Of more than fits, only the end survives; it goes where it would have gone byte by byte.
        data = memoryview(data)[-capacity:]
        at = (total - len(data)) % capacity
        first = min(len(data), capacity - at)
        missing = at + first - len(self._buffer)
        if missing > 0:
            self._buffer += bytes(missing)
        self._buffer[at : at + first] = data[:first]
        if first < len(data):
            self._buffer[: len(data) - first] = data[first:]
        self.total = total

    def read(self, position: int, size: int) -> bytes:
        """Return up to `size` bytes from `position` on. Raises `ValueError` if that byte is not kept (any more)."""
        if not self.start <= position <= self.total:
            raise ValueError(f"position {position} is not within {self.start} to {self.total}")
        size = min(size, self.total - position)
        at = position % self.capacity
        first = min(size, self.capacity - at)
        piece = bytes(self._buffer[at : at + first])
        return piece if first == size else piece + bytes(self._buffer[: size - first])

    def forget(self, position: int) -> None:
        """Give up what lies before `position`."""
        self.start = max(self.start, min(position, self.total))
