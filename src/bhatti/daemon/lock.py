"""One daemon per state directory, by a lock that the kernel lets go of when its holder dies."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from bhatti.errors import Conflict


@contextlib.contextmanager
def sole_daemon(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for the block; it says our pid.

    Raises `Conflict` (code `already-running`) that names the pid of the daemon that holds it.
    """
    # Not inherited by machines or helpers: they outlive us and must not hold our lock.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise Conflict(
                f"a daemon is already running with the state directory {path.parent}, pid {pid}",
                hint=f"use it, or end it with `kill {pid}`; another daemon needs a BHATTI_STATE_DIR of its own",
                code="already-running",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)  # lets go of the lock; the file stays, or a third daemon could lock a deleted one


def holder(path: Path) -> int | None:
    """Return the pid of the daemon that holds the lock file, None if nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None
