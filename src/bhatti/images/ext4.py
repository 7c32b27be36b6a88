"""Make ext4 file systems in plain files: no mounting, no loop device, no root."""

import contextlib
import errno
import os
import tempfile
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


def make_reproducible_ext4(
    path: Path,
    size_bytes: int,
    *,
    label: str,
    source: Path,
    options: tuple[str, ...] = (),
    held_lock: int | None = None,
) -> None:
    """Do what `make_ext4` does such that trees with equal contents, made at any time, give equal images.

    mke2fs copies the times of the files, one of which (ctime) nobody can set. They are all set to 1 in the image.
    """
    make_ext4(
        path,
        size_bytes,
        label=label,
        source=source,
        # Inodes of 128 bytes have whole seconds and no time of creation.
        options=("-I", "128", "-U", FIXED_UUID, *options, "-E", f"root_owner=0:0,hash_seed={FIXED_UUID}"),
        held_lock=held_lock,
    )
    with space_needed(path), tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".times-") as script:
        # Inode 2 is the root, 11 lost+found, and the tree follows without gaps.
        for inode in (2, *range(11, 12 + sum(1 for _ in source.rglob("*")))):
            script.writelines(f"set_inode_field <{inode}> {field} @1\n" for field in ("atime", "ctime", "mtime"))
        script.flush()
        run_program(["debugfs", "-w", "-f", script.name, path], held_lock=held_lock)


FIXED_UUID = "62686174-7469-4d69-8d61-676573000001"
"""Nobody looks these file systems up by their id."""


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
