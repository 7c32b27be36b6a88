"""Writing files: a reader sees the old content or the new, never a part, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from lohar.failures import RequestError, system_error
from lohar.operation import Operation
from lohar.wire.frames import FrameType
from lohar.wire.limits import LIMITS
from lohar.wire.messages import FileWriteResponse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.connection import Connection
    from lohar.wire.limits import Limits
    from lohar.wire.messages import FileWriteRequest
    from lohar.worker import Worker

DEFAULT_MODE = 0o644

_DONE = FileWriteResponse().to_json()


class Upload(Operation):
    """A file under way. Its content goes to a name of its own beside the target, so that two uploads of the same file
    do not mix, and is put in place when all of it is on the disk. `owner` (user, group) gets it, if it is given.
    """

    __slots__ = ("_fd", "_left", "_owner", "_path", "_request", "_temporary", "_worker")

    def __init__(
        self,
        connection: Connection,
        worker: Worker,
        request: FileWriteRequest,
        owner: tuple[int, int] | None,
        limits: Limits = LIMITS,
    ) -> None:
        super().__init__(connection)
        if request.size < 0:
            raise RequestError("file size must be >= 0")
        if request.size > limits.upload_bytes:
            raise RequestError(f"file too large: {request.size} bytes (max {limits.upload_bytes})")
        self._worker = worker
        self._request = request
        self._owner = owner
        self._path = path = request.path
        self._left = request.size
        check_target(path)
        make_parents(path, owner)
        # Not the target's name with something added: that could be longer than a name may be.
        self._temporary = os.path.join(os.path.dirname(path), f".bhatti-tmp-{os.urandom(8).hex()}")
        try:
            self._fd = os.open(
                self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, parse_mode(request.mode)
            )
        except OSError as error:
            raise system_error(f"open {path}", error) from error

    def begin(self) -> None:
        """Finish at once what has no content."""
        if self._left == 0:
            self._complete()

    def frame(self, kind: int, payload: bytes) -> None:
        """Take content. What is beyond the announced size is dropped."""
        if kind != FrameType.STDIN or self._left == 0:
            return
        data = memoryview(payload)[: self._left]
        try:
            while data:
                written = os.write(self._fd, data)
                self._left -= written
                data = data[written:]
        except OSError as error:
            self._fail("write", error)
            return
        if self._left == 0:
            self._complete()

    def end(self) -> None:
        """Give up what will not be complete any more."""
        if self._left:
            size = self._request.size
            self._discard()
            self.connection.fail(f"connection lost after {size - self._left}/{size} bytes")

    def lost(self) -> None:
        """Leave nothing."""
        if self._left:
            self._discard()

    def _complete(self) -> None:
        # On the disk before it has its name: after a crash of the machine there is the old file or the new one.
        fd = self._fd
        self._worker.submit(lambda: os.fsync(fd), self._synced)

    def _synced(self, error: OSError | None) -> None:
        if error is not None:
            self._fail("sync", error)
            return
        try:
            if self._owner is not None:
                os.fchown(self._fd, *self._owner)
            os.rename(self._temporary, self._path)
        except OSError as failure:
            self._fail("rename", failure)
            return
        os.close(self._fd)
        # A client that has gone meanwhile had sent everything: its file is there all the same.
        if self.connection.operation is self:
            self.connection.send(FrameType.FILE_WRITE_RESP, _DONE)
            self.connection.finish()

    def _fail(self, what: str, error: OSError) -> None:
        self._discard()
        if self.connection.operation is self:
            self.connection.fail(str(system_error(f"{what} {self._path}", error)))

    def _discard(self) -> None:
        os.close(self._fd)
        with suppress(OSError):
            os.unlink(self._temporary)


def parse_mode(text: str) -> int:
    """Return permission bits from octal text; 0644 if it is none. Set-user-id bits and the like are not settable."""
    try:
        mode = int(text, 8)
    except ValueError:
        return DEFAULT_MODE
    return mode & 0o777 if 0 <= mode <= 0o7777 else DEFAULT_MODE


def check_target(path: str) -> None:
    """Refuse at once what could not be put in place at the end. Raises `RequestError`."""
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            raise RequestError(f"rename {path}: is a directory")
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise system_error(f"open {path}", error) from error
        # Mostly that it is not there yet. Anything else is found out, and told, by making the file beside it.


def make_parents(path: str, owner: tuple[int, int] | None) -> None:
    """Make the directories that `path` needs, each given to `owner`. What fails is left for opening to tell."""
    missing = []
    folder = os.path.dirname(path)
    while folder and not os.path.lexists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    with suppress(OSError):
        for folder in reversed(missing):
            os.mkdir(folder, 0o755)
            if owner is not None:
                os.chown(folder, *owner)
