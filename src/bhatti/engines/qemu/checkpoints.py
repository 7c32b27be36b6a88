"""Named copies of a machine as it was at some moment, memory and disk, to go back to or to fork from."""

import shutil
from pathlib import Path

import anyio
import msgspec

from bhatti.durable import sync_file
from bhatti.engines.base import Checkpoint, ProgressCallback
from bhatti.engines.disk import disk_errors_explained
from bhatti.engines.qemu import snapshot
from bhatti.engines.qemu.copying import copy_sparse
from bhatti.engines.qemu.files import MachineFiles, remove_files
from bhatti.engines.qemu.fork import ForkingVm
from bhatti.engines.qemu.mold import Mold, new_directory, read_mold, read_whole_mold, with_own_drives
from bhatti.engines.qemu.record import Phase
from bhatti.errors import Conflict, NotFound
from bhatti.model.sandbox import checked_name

INTERRUPTED = "it was being put back to a checkpoint when its engine died"


class CheckpointedVm(ForkingVm):
    """A machine with molds of itself in its directory, which go with it."""

    def checkpoint_files(self, name: str) -> MachineFiles:
        """Return where the checkpoint of that name is, if there is one."""
        return MachineFiles(self.files.directory / "checkpoints" / name)

    async def checkpoint(self, name: str) -> Checkpoint:
        """Copy the running machine as it is now."""
        files = self.checkpoint_files(name)
        if (files.directory / snapshot.MANIFEST_FILE).exists():
            raise Conflict(
                f"sandbox {self.spec.name!r} has a checkpoint {name!r} already",
                hint="remove it first, or choose another name",
                code="checkpoint-exists",
            )
        try:
            await anyio.to_thread.run_sync(new_directory, files.directory)
            await self.cast(files)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(remove_files, files.directory)
            raise
        return await anyio.to_thread.run_sync(self._describe, files.directory)

    def checkpoints(self) -> list[Checkpoint]:
        """Return all of them, oldest first; those never finished are none. Blocks."""
        parent = self.files.directory / "checkpoints"
        finished = parent.glob(f"*/{snapshot.MANIFEST_FILE}") if parent.exists() else ()
        return sorted((self._describe(path.parent) for path in finished), key=lambda found: found.created_at)

    def sweep_copies(self) -> None:
        """Remove what an earlier engine was copying when it died, for a checkpoint or back from one. Blocks."""
        for directory in (self.files.directory / "checkpoints").glob("*"):
            if not (directory / snapshot.MANIFEST_FILE).exists():
                shutil.rmtree(directory)
        for copy in self.files.directory.glob("*.new"):
            copy.unlink()

    def remove_checkpoint(self, name: str) -> None:
        """Remove one, manifest first. Raises `NotFound`. Blocks."""
        directory = self._existing(name).directory
        snapshot.discard(directory)
        shutil.rmtree(directory)

    def read_checkpoint(self, name: str) -> Mold:
        """Return the mold of that name. Raises `NotFound`, `Conflict` (code `checkpoint-unusable`). Blocks."""
        found = read_whole_mold(self._host, self._existing(name).directory)
        if isinstance(found, str):
            raise Conflict(
                f"the checkpoint {name!r} of sandbox {self.spec.name!r} cannot be used: {found}",
                hint="the sandbox itself is as it was",
                code="checkpoint-unusable",
            )
        return found

    async def go_back(self, name: str, progress: ProgressCallback) -> None:
        """End what runs, put memory and disk back to the checkpoint, and go on from there."""
        mold = await anyio.to_thread.run_sync(self.read_checkpoint, name)
        with anyio.CancelScope(shield=True), disk_errors_explained(self.files.directory):
            # First the copies, which may not fit on the disk: until they are complete, nothing has happened.
            await anyio.to_thread.run_sync(self._copy_back, mold)
            await self._let_go()
            await self._note(phase=Phase.STOPPED, pid=0, no_memory=INTERRUPTED, cause=None)
            await anyio.to_thread.run_sync(self._put_in_place, mold)
            drives = with_own_drives(mold.frame, config=self.files.born, layer=self.files.layer)
            frame = msgspec.structs.replace(mold.frame, drives=drives)
            await self._note(frame=frame, generation=mold.record.generation, no_memory="")
            await anyio.to_thread.run_sync(self._seal_snapshot)
        await self.start(progress, require_memory=True)

    def _copy_back(self, mold: Mold) -> None:
        copies = [(source, target.with_name(f"{target.name}.new")) for source, target in self._pairs(mold)]
        try:
            for source, copy in copies:
                copy_sparse(source, copy)
                sync_file(copy)  # what it takes the place of is gone then
        except BaseException:
            for _, copy in copies:
                copy.unlink(missing_ok=True)
            raise

    def _put_in_place(self, mold: Mold) -> None:
        snapshot.discard(self.files.directory, self.files.memory, self.files.state)
        for _, target in self._pairs(mold):
            target.with_name(f"{target.name}.new").replace(target)

    def _pairs(self, mold: Mold) -> list[tuple[Path, Path]]:
        pairs = [
            (mold.files.layer, self.files.layer),
            (mold.files.config, self.files.born),
            (mold.files.state, self.files.state),
        ]
        return [*pairs, (mold.files.memory, self.files.memory)] if mold.has_memory_file else pairs

    def _existing(self, name: str) -> MachineFiles:
        files = self.checkpoint_files(checked_name(name))  # a path, else
        if not (files.directory / snapshot.MANIFEST_FILE).exists():
            raise NotFound(
                f"sandbox {self.spec.name!r} has no checkpoint {name!r}",
                hint=f"`bhatti checkpoint ls {self.spec.name}` shows them",
                code="checkpoint-not-found",
            )
        return files

    def _describe(self, directory: Path) -> Checkpoint:
        found = read_mold(self._host, directory)
        size = sum(path.stat().st_blocks * 512 for path in directory.iterdir())
        if isinstance(found, str):
            taken_at = (directory / snapshot.MANIFEST_FILE).stat().st_mtime
            return Checkpoint(name=directory.name, created_at=taken_at, size_bytes=size, usable=False, detail=found)
        return Checkpoint(name=directory.name, created_at=found.manifest.taken_at, size_bytes=size)
