"""The file of the daemon's keys: its owner's alone, replaced all at once, refused when others may read it.

One daemon has the state directory at a time (`daemon.lock`), so nobody else writes the file. All functions block.
"""

import os
import stat
from pathlib import Path

from bhatti.durable import sync_directory
from bhatti.errors import Unavailable
from bhatti.secrets.keys import Keys

MAX_BYTES = 64 << 10
"""A key takes 75 bytes."""


def read(path: Path) -> Keys | None:
    """Return the keys, or None if there is no file, or one with no key in it, as an installer may leave.

    Raises `Unavailable` (codes `secret-key-exposed`, `secret-key-unreadable`) and `CorruptData` (code
    `secret-key-corrupt`). The file is read each time: what is done about it by hand counts at once.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise _unreadable(path, err.strerror or "no reason given") from err
    try:
        _check(path, os.fstat(descriptor))
        content = os.read(descriptor, MAX_BYTES)
    finally:
        os.close(descriptor)
    keys = Keys.parse(content.decode(errors="replace"))
    return keys if len(keys) else None


def _check(path: Path, status: os.stat_result) -> None:
    """Raise `Unavailable` unless it is a file of the daemon's alone."""
    if not stat.S_ISREG(status.st_mode):
        raise _unreadable(path, "it is not a regular file")
    if status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise Unavailable(
            f"{path} is not the daemon's alone: it has owner {status.st_uid}, mode {status.st_mode & 0o777:o}",
            hint=f"`chown {os.geteuid()} {path}; chmod 600 {path}`, then `bhatti secret rotate-key`, and replace "
            "the secrets themselves if somebody may have read it",
            code="secret-key-exposed",
        )


def write(path: Path, keys: Keys) -> None:
    """Put `keys` in the file's place, durably: whatever happens, there is what was there or what is to be.

    Raises `OSError`.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)  # left by a daemon that was killed right here
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(keys.text().encode())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def _unreadable(path: Path, why: str) -> Unavailable:
    return Unavailable(
        f"the file of secret keys {path} cannot be read: {why}",
        hint="put it back from where you keep a copy of it",
        code="secret-key-unreadable",
    )
