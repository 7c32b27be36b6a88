"""Make ext4 file systems in plain files: no mounting, no loop device, no root."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from bhatti.errors import OutOfSpace
from bhatti.images.programs import run_program

MKE2FS_TIME = "1"
"""Times that mke2fs writes are constant, so that equal contents give equal images."""


def make_ext4(
    path: Path,
    size_bytes: int,
    *,
    label: str,
    source: Path | None = None,
    options: tuple[str, ...] = (),
    held_lock: int | None = None,
) -> None:
    """Create the file `path` (sparse, `size_bytes` long) with an ext4 file system, filled from the tree `source`.

    `options` go to mke2fs(8) as they are. On failure no file is left. Raises `MissingDependency`, `OutOfSpace`,
    `EngineFailure`.
    """
    try:
        make_sparse(path, size_bytes)
        fill = ["-d", str(source)] if source else []
        run_program(
            ["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", label, *options, *fill, path],
            env={"MKE2FS_CONFIG": os.devnull, "E2FSPROGS_FAKE_TIME": MKE2FS_TIME, "MKE2FS_SKIP_PROGRESS": "1"},
            held_lock=held_lock,
        )
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def make_sparse(path: Path, size_bytes: int) -> None:
    """Create the file `path`, `size_bytes` long, without using space; raises `OutOfSpace`."""
    with space_needed(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size_bytes)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def space_needed(path: Path) -> Iterator[None]:
    """Turn the operating system's word for a full disk, quota or file system into `OutOfSpace`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OutOfSpace(
                f"cannot write {path}: {error.strerror}", hint="free some space on that disk and run the same again"
            ) from error
        raise
