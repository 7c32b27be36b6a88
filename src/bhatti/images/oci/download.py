"""Download blobs: each into a file named by its digest, taken up again where an earlier attempt ended.

Whoever has the lock of a file writes it; all others wait and then find it complete. A finished blob stays readable
through its open file even after its name has gone, so that nobody takes it from under an import.
"""

import errno
import fcntl
import os
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bhatti.errors import CorruptData, OutOfSpace, Unavailable
from bhatti.images.ext4 import space_needed
from bhatti.images.oci.digest import CHUNK_BYTES, Verifier
from bhatti.images.oci.web import Answer, Transient

DIRECTORY = "downloads"
"""Of blobs, below the directory of images."""

KEPT_S = 24 * 3600.0
"""How long an unfinished download waits to be taken up again."""

PROGRESS_BYTES = 256 << 10
"""An attempt that has brought so much is no failure: the next one goes on from there."""

MAX_RESTARTS = 3
"""How often a server may make us throw away what has come."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-[0-9]+/(?:[0-9]+|\*)")


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to try again without having got anywhere, and how long to wait: each time twice as long."""

    attempts: int = 5
    first_delay_s: float = 1.0
    max_delay_s: float = 30.0

    def wait(self, failures: int, asked_s: float = 0) -> None:
        """Wait before the next attempt, after so many failures (1 or more); no less than the server asks for."""
        time.sleep(min(self.max_delay_s, max(asked_s, self.first_delay_s * 2 ** (failures - 1))))


RETRY = Retry()
"""For people at a terminal: half a minute until they know."""


@dataclass(frozen=True, slots=True)
class Blob:
    """What to download."""

    digest: str
    size_bytes: int
    origin: str


Open = Callable[[int], AbstractContextManager[Answer]]
"""Asks the server for a blob from a position on; yields only answers of status 200, 206 and 416."""

OnBytes = Callable[[int], None]
"""Called with the number of bytes that have come, negative when they had to be thrown away. May raise to give up."""


class Downloads:
    """The blobs in one directory."""

    def __init__(self, directory: Path, retry: Retry = RETRY) -> None:
        self.directory = directory
        self._retry = retry

    def fetch(self, blob: Blob, open_from: Open, on_bytes: OnBytes) -> BinaryIO:
        """Return the blob as a file, its digest verified; what an earlier attempt has left is not fetched again.

        Raises `CorruptData` (code `digest-mismatch`), `OutOfSpace`, and what `open_from` raises, transient failures
        only after some attempts. After these, what has come stays for the next time.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / _file_name(blob.digest)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b", 0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            with space_needed(self.directory):
                _Download(blob, file, open_from, on_bytes, self._retry).run()
            fcntl.flock(file, fcntl.LOCK_UN)
            file.seek(0)
        except BaseException as error:
            # Wrong contents are of no use, and on a full disk nobody should have to look for what fills it.
            if isinstance(error, (CorruptData, OutOfSpace)):
                path.unlink(missing_ok=True)
            file.close()
            raise
        return file

    def forget(self, digests: list[str]) -> None:
        """Remove blobs that are not needed any more. Files that are open stay readable."""
        for digest in digests:
            with suppress(FileNotFoundError):
                (self.directory / _file_name(digest)).unlink()

    def sweep(self, older_than_s: float = KEPT_S) -> int:
        """Remove what nobody has worked on for so long; return how many bytes that freed."""
        freed = 0
        for path in self.directory.glob("sha*-*"):
            with suppress(FileNotFoundError), path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_mtime > time.time() - older_than_s or not _lock_at_once(file):
                    continue
                freed += found.st_blocks * 512
                path.unlink()
        return freed


class _Download:
    """One blob on its way, in a file that is ours alone."""

    def __init__(self, blob: Blob, file: BinaryIO, open_from: Open, on_bytes: OnBytes, retry: Retry) -> None:
        self._blob = blob
        self._file = file
        self._open_from = open_from
        self._on_bytes = on_bytes
        self._retry = retry
        self._verifier = Verifier(blob.digest)
        self._resumed = False
        self._restarts = 0

    def run(self) -> None:
        """Fetch what is missing, again and again, until the blob is complete and right."""
        self._take_up()
        failures = 0
        while True:
            before = self._verifier.size_bytes
            try:
                if before < self._blob.size_bytes:
                    self._fetch_rest(before)
                if self._verifier.size_bytes < self._blob.size_bytes:
                    continue  # it has to be fetched from its beginning
                if self._verifier.matches():
                    return
                if not self._resumed:
                    self._verifier.check("a blob", self._blob.origin)
                self._start_again()  # what was there from an earlier time may be what is wrong
            except Transient as error:
                failures = 1 if self._verifier.size_bytes >= before + PROGRESS_BYTES else failures + 1
                if failures >= self._retry.attempts:
                    raise
                self._retry.wait(failures, error.retry_after_s)

    def _take_up(self) -> None:
        """Read what an earlier attempt has left."""
        self._file.seek(0)
        while data := self._file.read(CHUNK_BYTES):
            self._verifier.update(data)
            self._on_bytes(len(data))
        self._resumed = self._verifier.size_bytes > 0
        if self._verifier.size_bytes > self._blob.size_bytes:
            self._start_again()

    def _start_again(self) -> None:
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise Unavailable(f"{self._blob.origin}: the registry never lets a blob end", code="registry-failing")
        self._file.seek(0)
        self._file.truncate()
        self._on_bytes(-self._verifier.size_bytes)
        self._verifier = Verifier(self._blob.digest)
        self._resumed = False

    def _fetch_rest(self, start: int) -> None:
        with self._open_from(start) as answer:
            if answer.status == 416 or (answer.status == 206 and not _begins_at(answer, start)):
                # The server does not have what we have, or gives another part than we asked for.
                if start == 0:
                    raise self._wrong_size("nothing of it")
                self._start_again()
                return
            if answer.status == 200 and start:
                self._start_again()
            while data := answer.read_some():
                if self._verifier.size_bytes + len(data) > self._blob.size_bytes:
                    raise self._wrong_size("more")
                write_all(self._file, data)
                self._verifier.update(data)
                self._on_bytes(len(data))
        if self._verifier.size_bytes < self._blob.size_bytes:
            raise Transient(f"{self._blob.origin}: the connection ended before a blob was complete")

    def _wrong_size(self, found: str) -> CorruptData:
        return CorruptData(
            f"a blob of {self._blob.origin} ({self._blob.digest}) should have {self._blob.size_bytes} bytes, and the "
            f"registry has {found}",
            hint="fetch it again; if this stays, the registry is damaged or lying",
            code="digest-mismatch",
        )


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of `data` to an unbuffered file."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _begins_at(answer: Answer, start: int) -> bool:
    match = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
    return match is not None and int(match.group(1)) == start


def _lock_at_once(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def _file_name(digest: str) -> str:
    return digest.replace(":", "-")
