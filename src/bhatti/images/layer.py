"""The layer: a sparse file system that takes a sandbox's writes above its read-only image."""

from pathlib import Path

from bhatti.images.ext4 import make_ext4

FEATURES = (
    "none,has_journal,extent,ext_attr,dir_index,filetype,flex_bg,sparse_super,large_file,huge_file,dir_nlink,"
    "extra_isize,64bit,metadata_csum"
)
"""mke2fs's usual ext4, so that no host's mke2fs.conf changes it; without resize_inode, which costs space."""

JOURNAL_MIB = 16
"""Enough for a guest's metadata; every journal block it has ever used is real space on the host."""


def make_layer(path: Path, size_mib: int) -> None:
    """Create an empty layer of `size_mib` MiB (at least 64) at `path`: some milliseconds and about 200 KiB.

    The file is new, so its blocks read as zero: mke2fs is told so and writes neither inode tables nor journal, and the
    guest's kernel does not do it later in the background. On failure no file is left. Raises `MissingDependency`,
    `OutOfSpace`, `EngineFailure`.
    """
    make_ext4(
        path,
        max(size_mib, 64) << 20,
        label="bhatti-layer",
        options=(
            "-b", "4096", "-I", "256", "-O", FEATURES, "-J", f"size={JOURNAL_MIB}",
            "-E", "assume_storage_prezeroed=1,lazy_journal_init=1,nodiscard,root_owner=0:0",
        ),
    )  # fmt: skip
