"""Files that are there, and whole, after a power cut. Everything here blocks until the disk has it."""

import os
import threading
from pathlib import Path


def write_durably(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Replace the file at once and for good: a reader sees the old or the new contents, also after a power cut.

    `mode` is what it is created with, less the umask. Raises `OSError`; the file is then as it was.
    """
    # Of this thread alone: two that write the same file at once must not write into each other's.
    temporary = path.with_name(f".{path.name}.{threading.get_native_id()}")
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Wait until what was written to a file, by whomever and through whatever mapping, is on the disk.

    Raises `OSError`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Make renames and removals in `directory` durable. Raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
