"""Volumes as files, for engines whose machines have disks: `NAME.ext4` in one directory.

Whatever is made is made under another name, made durable, and renamed: a file that is there is whole.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from anyio import to_thread

from bhatti.durable import sync_directory, sync_file
from bhatti.engines.disk import disk_errors_explained
from bhatti.engines.qemu.copying import copy_sparse
from bhatti.engines.volumes import VolumeKeeper, VolumeUse
from bhatti.errors import Conflict, NotFound
from bhatti.images.volume import check_volume, grow_volume, make_volume

DRAFT = ".draft-"
"""Begins the names of files that are not finished."""


class VolumeFiles(VolumeKeeper):
    """The volumes in `directory`, which is made when there is the first."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        """Return where a volume of that name is, or would be."""
        return self.directory / f"{name}.ext4"

    def find(self, name: str) -> Path:
        """Return the file of a volume that can be used. Blocks.

        Raises `NotFound` (code `volume-not-found`), `CorruptData` (code `volume-corrupt`).
        """
        path = self._existing(name)
        check_volume(path)
        return path

    async def create(self, name: str, size_mib: int) -> None:
        """See `VolumeKeeper`."""
        await to_thread.run_sync(self._create, name, size_mib)

    async def remove(self, name: str) -> None:
        """See `VolumeKeeper`."""
        await to_thread.run_sync(lambda: self._existing(name).unlink())

    async def resize(self, name: str, size_mib: int) -> None:
        """See `VolumeKeeper`."""
        await to_thread.run_sync(self._resize, name, size_mib)

    async def clone(self, source: str, name: str) -> None:
        """See `VolumeKeeper`."""
        await to_thread.run_sync(self._clone, source, name)

    async def use(self) -> VolumeUse:
        """See `VolumeKeeper`."""
        return await to_thread.run_sync(self._use)

    async def size_mib(self, name: str) -> int | None:
        """See `VolumeKeeper`."""
        return await to_thread.run_sync(lambda: self._existing(name).stat().st_size >> 20)

    async def sweep(self) -> None:
        """See `VolumeKeeper`."""
        await to_thread.run_sync(self._sweep)

    def _existing(self, name: str) -> Path:
        path = self.path(name)
        if not path.is_file():
            raise volume_not_found(name)
        return path

    def _create(self, name: str, size_mib: int) -> None:
        draft = self._draft_of_new(name)
        make_volume(draft, size_mib)
        self._finish(draft, self.path(name))

    def _resize(self, name: str, size_mib: int) -> None:
        path, draft = self.find(name), self._draft(name)
        self._change(path, draft, lambda: grow_volume(draft, size_mib))
        self._finish(draft, path)

    def _clone(self, source: str, name: str) -> None:
        path, draft = self.find(source), self._draft_of_new(name)
        self._change(path, draft, lambda: sync_file(draft))
        self._finish(draft, self.path(name))

    def _change(self, path: Path, draft: Path, change: Callable[[], None]) -> None:
        copy_sparse(path, draft)
        try:
            with disk_errors_explained(self.directory):
                change()
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def _draft(self, name: str) -> Path:
        return self.directory / f"{DRAFT}{name}"

    def _draft_of_new(self, name: str) -> Path:
        with disk_errors_explained(self.directory):
            self.directory.mkdir(mode=0o700, exist_ok=True)
        if self.path(name).exists():
            raise volume_exists(name)
        return self._draft(name)

    def _finish(self, draft: Path, path: Path) -> None:
        draft.rename(path)
        sync_directory(self.directory)

    def _use(self) -> VolumeUse:
        existing = self.directory if self.directory.is_dir() else self.directory.parent
        used = {path.stem: path.stat().st_blocks * 512 >> 20 for path in self.directory.glob("*.ext4")}
        return VolumeUse(free_mib=shutil.disk_usage(existing).free >> 20, used_mib=used)

    def _sweep(self) -> None:
        for draft in self.directory.glob(f"{DRAFT}*"):
            draft.unlink()


def volume_not_found(name: str) -> NotFound:
    """Return the error for a volume that is not there."""
    return NotFound(
        f"there is no volume {name!r}",
        hint=f"`bhatti volume ls` shows what there is; `bhatti volume create {name}` makes one",
        code="volume-not-found",
    )


def volume_exists(name: str) -> Conflict:
    """Return the error for a name that is taken."""
    return Conflict(f"there is a volume {name!r} already", hint="choose another name", code="volume-exists")
