"""What a full disk of the host means to an engine."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bhatti.errors import OutOfSpace


@contextmanager
def disk_errors_explained(directory: Path) -> Iterator[None]:
    """Turn "no space left" of any file operation within into `OutOfSpace`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(f"the disk of {directory} is full", hint="free disk space") from error
        raise
