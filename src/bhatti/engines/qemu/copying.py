"""Copies of large sparse files: shared blocks where the file system can, else the data alone, holes kept."""

import errno
import fcntl
import os
from pathlib import Path

from bhatti.engines.disk import disk_errors_explained

FICLONE = 0x40049409
"""ioctl_ficlone(2): make a file share all blocks of another. XFS, btrfs and bcachefs can; ext4 cannot."""

CHUNK_BYTES = 64 << 20


def copy_sparse(source: Path, target: Path) -> None:
    """Make `target` a copy of `source`, readable by its owner only. Blocks.

    On failure no file is left. Raises `OutOfSpace`, `FileNotFoundError`.
    """
    with disk_errors_explained(target.parent):
        reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                _copy(reading, writing)
            except BaseException:
                target.unlink(missing_ok=True)
                raise
            finally:
                os.close(writing)
        finally:
            os.close(reading)


def _copy(reading: int, writing: int) -> None:
    try:
        fcntl.ioctl(writing, FICLONE, reading)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS):
            raise
    else:
        return
    size = os.fstat(reading).st_size
    os.ftruncate(writing, size)
    end = 0
    while (begin := next_data(reading, end)) is not None:
        end = os.lseek(reading, begin, os.SEEK_HOLE)
        while begin < end:
            begin += os.copy_file_range(reading, writing, min(end - begin, CHUNK_BYTES), begin, begin)


def next_data(file: int, start: int) -> int | None:
    """Return where the next data at or after `start` begins, or None if only a hole follows (lseek(2))."""
    try:
        return os.lseek(file, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise
