"""Make the root file system of an image: all its layers, one over the other, each proved to be what was promised."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bhatti.errors import CorruptData, InvalidRequest
from bhatti.images.artefacts import Progress
from bhatti.images.oci.digest import Verifier
from bhatti.images.oci.layer import Budget, apply_layer
from bhatti.images.oci.source import ResolvedImage
from bhatti.images.oci.streams import DamagedStream, MeasuredInput, open_stream
from bhatti.images.oci.tar import TarReader
from bhatti.images.oci.tarfields import MalformedTar, shown
from bhatti.images.oci.tree import EntryRefused, Tree

TOLD_BYTES = 8 << 20
"""How much is unpacked between two words about the progress."""

_OF_THE_HOST = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EPERM, errno.EACCES, errno.EMFILE}
"""Errors that the host is to blame for; whatever else the system refuses is the fault of what the archive asks."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large an image may be, unpacked. The largest in common use, of machine learning, have some 20 GiB."""

    max_bytes: int = 64 << 30
    max_entries: int = 2_000_000


def unpack(
    image: ResolvedImage, files: Sequence[BinaryIO], root: Path, limits: Limits, progress: Progress
) -> dict[str, str]:
    """Unpack the layers `files` of `image` into the empty directory `root`; return remarks for people.

    Raises `CorruptData` (codes `bad-layer`, `digest-mismatch`), `InvalidRequest` (`image-refused`), `LimitExceeded`
    (`image-too-large`), and `OSError` for what the host is to blame for, such as a full disk.
    """
    total = sum(layer.size_bytes for layer in image.layers)
    budget = Budget(limits.max_bytes, limits.max_entries, image.origin)
    before = 0
    with Tree(root) as tree:
        for number, (layer, file) in enumerate(zip(image.layers, files, strict=True), start=1):
            progress("unpack", before, total + 1)
            spend = _telling(budget, lambda: progress("unpack", min(before + file.tell(), total), total + 1))  # noqa: B023
            with _explained(f"layer {number} of {len(image.layers)}", image.origin):
                _unpack_layer(file, layer.diff_id, image.origin, tree, budget, spend)
            before += layer.size_bytes
        tree.set_times()
    progress("unpack", total + 1, total + 1)
    if budget.lost_capabilities:
        return {"lost-capabilities": f"{budget.lost_capabilities} files: the host's file system takes none"}
    return {}


def _unpack_layer(
    file: BinaryIO, diff_id: str, origin: str, tree: Tree, budget: Budget, spend: Callable[[int], None]
) -> None:
    verifier = Verifier(diff_id)
    with open_stream(file) as stream:
        measured = MeasuredInput(stream, verifier, spend)
        apply_layer(TarReader(measured), tree, budget)
        measured.drain()
    verifier.check("a layer, unpacked,", origin)


def _telling(budget: Budget, tell: Callable[[], None]) -> Callable[[int], None]:
    """Return a function that counts bytes into `budget` and calls `tell` from time to time."""
    told = budget.stream_bytes

    def spend(size: int) -> None:
        nonlocal told
        budget.spend_stream(size)
        if budget.stream_bytes - told >= TOLD_BYTES:
            told = budget.stream_bytes
            tell()

    return spend


@contextmanager
def _explained(what: str, origin: str) -> Iterator[None]:
    """Turn what can be wrong with a layer into our errors."""
    try:
        yield
    except EntryRefused as error:
        raise InvalidRequest(
            f"{what} of {origin} was refused: {error}",
            hint="nothing of it was kept; ask whoever made the image",
            code="image-refused",
        ) from error
    except (MalformedTar, DamagedStream) as error:
        raise CorruptData(
            f"{what} of {origin} is damaged: {error}", hint="fetch or save the image again", code="bad-layer"
        ) from error
    except OSError as error:
        if error.errno in _OF_THE_HOST:
            raise
        name = f"{shown(os.fsencode(error.filename))}: " if isinstance(error.filename, (str, bytes)) else ""
        raise InvalidRequest(
            f"{what} of {origin} was refused: {name}{error.strerror}",
            hint="nothing of it was kept; ask whoever made the image",
            code="image-refused",
        ) from error
