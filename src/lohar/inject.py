"""Files that the host wants in the guest before its first command."""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from lohar.config import InjectedFile


class InjectError(OSError):
    """A file could not be written; the message names it."""

    def __str__(self) -> str:
        """Return the message alone, without the number before it."""
        return str(self.args[-1])


def apply_files(files: Iterable[InjectedFile], uid: int, gid: int, *, root: str = "/") -> None:
    """Write each file with its mode, owned by the user, as are the directories that had to be made for it.

    Each is replaced at once: a reader sees the old or the new contents. Raises `InjectError`.
    """
    for file in files:
        path = os.path.join(root, file.path.lstrip("/"))
        try:
            _make_parents(os.path.dirname(path), uid, gid)
            _write(path, file, uid, gid)
        except OSError as error:
            raise InjectError(error.errno, f"cannot write the file {file.path}: {error.strerror}") from error


def _make_parents(directory: str, uid: int, gid: int) -> None:
    missing = []
    while not os.path.exists(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for path in reversed(missing):
        os.mkdir(path, 0o755)
        os.chown(path, uid, gid)


def _write(path: str, file: InjectedFile, uid: int, gid: int) -> None:
    temporary = f"{path}.lohar"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as target:
            target.write(file.content)
            os.fchown(target.fileno(), uid, gid)
            os.fchmod(target.fileno(), file.mode)  # after the chown, which would take setuid bits away
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
