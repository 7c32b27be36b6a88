"""A copy of the store for whoever asks: made beside the store, sent in pieces, gone afterwards."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from anyio import to_thread

from bhatti.errors import OutOfSpace
from bhatti.store.journal import Journal

PIECE_BYTES = 256 << 10

DRAFT = "backup-*.tmp"
"""What copies are called while they are sent; a daemon that was killed may leave one."""


@contextlib.asynccontextmanager
async def copied(journal: Journal, directory: Path) -> AsyncIterator[AsyncIterator[bytes]]:
    """Make a copy below `directory`, whose disk has room for the store itself, and give its pieces for the block.

    Raises `OutOfSpace`, and what the store reports. Safe to cancel: the copy is removed in any case.
    """
    target = directory / DRAFT.replace("*", secrets.token_hex(8))
    try:
        try:
            await journal.backup(target)
        except OSError as err:
            raise OutOfSpace(f"no copy of the store can be made in {directory}: {err.strerror}") from err
        # Opened here and not in a thread: a request that ends would leave the thread with a file that nobody closes.
        with target.open("rb") as file:

            async def pieces() -> AsyncIterator[bytes]:
                while piece := await to_thread.run_sync(file.read, PIECE_BYTES):
                    yield piece

            yield pieces()
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(lambda: target.unlink(missing_ok=True))


def sweep(directory: Path) -> None:
    """Remove what a killed daemon has left of copies."""
    for draft in directory.glob(DRAFT):
        draft.unlink(missing_ok=True)
