"""FILE_WATCH: what happens to files, as it happens.

inotify(7) knows single directories; a recursive watch is one on each directory below, kept complete as directories come
and go. Between the making of a directory and our watch on it, files may have been made in it: so what is in a new
directory is reported as created when it is first looked at, and no file is ever missed (one may be reported twice).
"""

from __future__ import annotations

import ctypes
import os
import struct

from lohar.failures import RequestError, system_error
from lohar.operation import Operation
from lohar.poller import READ
from lohar.wire.frames import FrameType, encode_exit
from lohar.wire.messages import WatchEvent, WatchEvents, WatchKind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.connection import Connection
    from lohar.loop import Loop
    from lohar.wire.limits import Limits
    from lohar.wire.messages import WatchRequest

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000
IN_DONT_FOLLOW = 0x02000000
IN_ISDIR = 0x40000000
"""linux/inotify.h"""

KINDS = {
    IN_CREATE: WatchKind.CREATED,
    IN_MODIFY: WatchKind.MODIFIED,
    IN_ATTRIB: WatchKind.ATTRIBUTES,
    IN_DELETE: WatchKind.DELETED,
    IN_MOVED_FROM: WatchKind.MOVED_FROM,
    IN_MOVED_TO: WatchKind.MOVED_TO,
    IN_DELETE_SELF: WatchKind.DELETED,
    IN_MOVE_SELF: WatchKind.MOVED_FROM,
}

INTERESTING = IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO

READ_SIZE = 64 << 10
"""A few thousand events at once."""

MAX_EVENTS = 200
"""In one frame: with the longest paths (4096 bytes, each 6 characters in JSON at the worst) they could be too many for
one, so a batch is also cut by size."""

MAX_BATCH_BYTES = 128 << 10
"""Of paths in one frame."""

_HEADER = struct.Struct("iIII")


class Inotify:
    """The kernel's queue of events, and which directory each watch is for."""

    def __init__(self) -> None:
        """Open it. Raises `RequestError` where there is none."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "inotify_init1"):
            raise RequestError("watch: not supported on this system")
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise _failed("watch: inotify_init")
        self._paths: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, path: str, mask: int) -> None:
        """Watch `path`. Raises `RequestError`."""
        watch = self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask)
        if watch < 0:
            raise _failed(f"watch {path}")
        self._paths[watch] = path

    def read(self) -> list[tuple[str, int]]:
        """Return what has happened: (path, mask) pairs, an empty path with IN_Q_OVERFLOW."""
        try:
            data = os.read(self.fd, READ_SIZE)
        except BlockingIOError:
            return []
        events = []
        at = 0
        while at < len(data):
            watch, mask, _cookie, length = _HEADER.unpack_from(data, at)
            at += _HEADER.size
            name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
            at += length
            if mask & IN_IGNORED:
                self._paths.pop(watch, None)
            elif mask & IN_Q_OVERFLOW:
                events.append(("", IN_Q_OVERFLOW))
            elif watch in self._paths:
                folder = self._paths[watch]
                events.append((os.path.join(folder, name) if name else folder, mask))
        return events

    def close(self) -> None:
        """Forget all watches."""
        os.close(self.fd)


def _failed(what: str) -> RequestError:
    number = ctypes.get_errno()
    return system_error(what, OSError(number, os.strerror(number)))


class Watch(Operation):
    """A watch under way. A client that does not keep up is told so (`overflow`), and looks for itself."""

    __slots__ = ("_inotify", "_limit", "_loop", "_paused", "_recursive", "_root")

    def __init__(self, connection: Connection, loop: Loop, request: WatchRequest, limits: Limits) -> None:
        super().__init__(connection)
        self._loop = loop
        self._root = os.path.abspath(request.path)
        self._recursive = request.recursive
        self._limit = limits.watches
        self._paused = False
        if not os.path.lexists(self._root):
            raise RequestError(f"watch {request.path}: no such file or directory")
        self._inotify = Inotify()
        try:
            self._inotify.add(self._root, INTERESTING | IN_DELETE_SELF | IN_MOVE_SELF)
            self._add_below(self._root)
        except RequestError:
            self._inotify.close()
            raise
        loop.register(self._inotify.fd, READ, self._ready)

    def begin(self) -> None:
        """Say that the watch stands."""
        self._send([], overflow=False)

    def frame(self, kind: int, _payload: bytes) -> None:
        """End it at KILL."""
        if kind == FrameType.KILL:
            self._close()
            self.connection.send(FrameType.EXIT, encode_exit(0))
            self.connection.finish()

    def end(self) -> None:
        """End it: nobody half-closes who still wants to end it properly."""
        self.connection.drop()

    def lost(self) -> None:
        """End it."""
        self._close()

    def drained(self) -> None:
        """Read on; what the kernel could not keep meanwhile, it says itself."""
        if self._paused:
            self._paused = False
            self._loop.register(self._inotify.fd, READ, self._ready)

    def _add_below(self, folder: str) -> list[WatchEvent]:
        """Watch the directories below `folder`, if that is wanted; return what was found there as created."""
        found: list[WatchEvent] = []
        folders = [folder] if self._recursive and os.path.isdir(folder) else []
        while folders:
            try:
                entries = list(os.scandir(folders.pop()))
            except OSError:
                continue  # gone again, or not ours to look into
            for entry in entries:
                is_dir = entry.is_dir(follow_symlinks=False)
                found.append(WatchEvent(path=entry.path, kind=WatchKind.CREATED, is_dir=is_dir))
                if is_dir and self._watch_folder(entry.path):
                    folders.append(entry.path)
        return found

    def _watch_folder(self, path: str) -> bool:
        if len(self._inotify) >= self._limit:
            raise RequestError(f"watch {self._root}: more than {self._limit} directories")
        try:
            self._inotify.add(path, INTERESTING | IN_ONLYDIR | IN_DONT_FOLLOW)
        except RequestError:
            if os.path.isdir(path):
                raise
            return False  # it has gone meanwhile
        return True

    def _ready(self, _mask: int) -> None:
        batch: list[WatchEvent] = []
        size = 0
        overflow = False
        try:
            for path, mask in self._inotify.read():
                for event in self._events(path, mask):
                    batch.append(event)
                    size += len(event.path)
                    if len(batch) >= MAX_EVENTS or size >= MAX_BATCH_BYTES:
                        self._send(batch, overflow=False)
                        batch, size = [], 0
                overflow = overflow or bool(mask & IN_Q_OVERFLOW)
        except RequestError as error:
            self._close()
            self.connection.fail(str(error))
            return
        if batch or overflow:
            self._send(batch, overflow=overflow)
        if self.connection.congested:
            self._paused = True
            self._loop.unregister(self._inotify.fd)

    def _events(self, path: str, mask: int) -> list[WatchEvent]:
        is_dir = bool(mask & IN_ISDIR)
        events = [
            WatchEvent(path=path, kind=kind, is_dir=is_dir)
            for flag, kind in KINDS.items()
            if mask & flag and not (flag in (IN_DELETE_SELF, IN_MOVE_SELF) and path != self._root)
        ]
        if is_dir and self._recursive and mask & (IN_CREATE | IN_MOVED_TO) and self._watch_folder(path):
            events += self._add_below(path)
        return events

    def _send(self, events: list[WatchEvent], *, overflow: bool) -> None:
        message = WatchEvents(events=tuple(events), overflow=overflow)
        self.connection.send(FrameType.FILE_WATCH_EVENT, message.to_json())

    def _close(self) -> None:
        if not self._paused:
            self._loop.unregister(self._inotify.fd)
        self._inotify.close()
