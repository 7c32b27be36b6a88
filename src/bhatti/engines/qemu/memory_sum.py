"""The content of a memory file: its checksum, made when the file comes to rest, and whether it is still what it was.

A stop must not wait for this: hashing what an idle guest of 512 MiB has in use takes as long as all the rest of it. So
the checksum is made in background, from the page cache, and given up when the machine is started before it is there.
Holes and zeros are equal, since copies and file systems turn one into the other, and holes cost nothing.
"""

import asyncio
import logging
import os
import threading
import zlib
from pathlib import Path

import anyio
import msgspec

from bhatti.engines.qemu.copying import next_data
from bhatti.engines.qemu.snapshot import SUM_FILE, SealedFile

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
ZEROS = bytes(CHUNK_BYTES)


class MemorySum(msgspec.Struct, frozen=True):
    """The checksum of a file as it was when it had that size and time of last change."""

    size_bytes: int
    mtime_ns: int
    crc32: int


class GivenUp(Exception):
    """The checksum is not wanted any more."""


def checksum(path: Path, given_up: threading.Event | None = None) -> int:
    """Return the CRC-32 of what is not zero in a file, and where it is. Blocks. Raises `GivenUp`, `OSError`."""
    found = 0
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = os.fstat(file).st_size
        at = 0
        while at < end and (data := next_data(file, at)) is not None:
            at = data - data % CHUNK_BYTES
            chunk = os.pread(file, CHUNK_BYTES, at)
            if chunk != ZEROS[: len(chunk)]:
                found = zlib.crc32(chunk, zlib.crc32(at.to_bytes(8), found))
            at += CHUNK_BYTES
            if given_up is not None and given_up.is_set():
                raise GivenUp
    finally:
        os.close(file)
    return found


def record_sum(memory: SealedFile, given_up: threading.Event | None = None) -> None:
    """Make the checksum of a sealed file and write it down beside it. Blocks; raises like `checksum`."""
    made = MemorySum(memory.size_bytes, memory.mtime_ns, checksum(Path(memory.path), given_up))
    target = _sum_file(memory)
    temporary = target.with_name(f"{target.name}.tmp")
    temporary.write_bytes(msgspec.json.encode(made))
    temporary.replace(target)


def content_damage(memory: SealedFile) -> str | None:
    """Return what is wrong with the content of a sealed file, or None. Blocks, and reads all of it.

    One that has no checksum gets one: what it was before nobody can say.
    """
    try:
        noted = msgspec.json.decode(_sum_file(memory).read_bytes(), type=MemorySum)
    except (OSError, msgspec.DecodeError):
        noted = None
    try:
        if noted is None or (noted.size_bytes, noted.mtime_ns) != (memory.size_bytes, memory.mtime_ns):
            record_sum(memory)
        elif checksum(Path(memory.path)) != noted.crc32:
            return f"does not match its checksum: {memory.path}"
    except OSError as error:
        return f"cannot be read: {error}"
    return None


def _sum_file(memory: SealedFile) -> Path:
    return Path(memory.path).with_name(SUM_FILE)


class BackgroundSum:
    """The checksum of a memory file that has come to rest, being made while nobody waits for it."""

    def __init__(self, memory: SealedFile) -> None:
        self._given_up = threading.Event()
        self._making = asyncio.get_running_loop().run_in_executor(None, self._make, memory)

    async def made(self) -> None:
        """Wait until the checksum is there. Safe to cancel."""
        await asyncio.shield(self._making)

    async def give_up(self) -> None:
        """Leave the file alone from now on. Shielded: a chunk takes a millisecond."""
        self._given_up.set()
        with anyio.CancelScope(shield=True):
            await self.made()

    def _make(self, memory: SealedFile) -> None:
        try:
            record_sum(memory, self._given_up)
        except (GivenUp, OSError) as error:
            # Whoever asks for the content next makes it; a file that cannot be read is told then.
            log.debug("no checksum of %s: %s", memory.path, str(error) or "the machine is started again")
