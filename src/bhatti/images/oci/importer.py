"""Turn an image from elsewhere into an artefact: a root file system, and what the image says about running it.

The artefact's key is the digest of the image's configuration, which holds the digests of all layers: the same image is
unpacked once, by whatever name and from wherever it comes.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import msgspec

from bhatti.errors import CorruptData, InvalidRequest, LimitExceeded, MissingDependency, OutOfSpace
from bhatti.images.artefacts import Artefact, ArtefactStore, Progress, input_key
from bhatti.images.base_image import make_tree_image
from bhatti.images.image_config import FILE_NAME
from bhatti.images.oci.source import ImageSource, ResolvedImage
from bhatti.images.oci.streams import too_large
from bhatti.images.oci.unpack import Limits, unpack

KIND = "root"
RECIPE = 1
"""Raise it when images are unpacked differently: existing ones are then unpacked again at their next import."""

LIMITS = Limits()


@contextmanager
def imported_root(
    artefacts: ArtefactStore, source: ImageSource, image: ResolvedImage, *, limits: Limits, progress: Progress
) -> Iterator[Artefact]:
    """Yield the artefact of `image`, which `source` has; made now, unless an earlier import has made it.

    The store is locked until the context is left, so that the artefact can be given a name before anybody collects it;
    but not while the network is used, so that others can build meanwhile. Whatever is raised, nothing of the image is
    left but downloads that can be taken up again. Raises `MissingDependency` (a program, or root), `OutOfSpace`,
    `EngineFailure`, and what `source` and `unpack` raise.
    """
    try:
        files: Sequence[BinaryIO] | None = None
        if _find(artefacts, image) is None:
            check_privileges()
            # Before anything is fetched: what is larger than that while it is packed, the disk need not hold first.
            if sum(layer.size_bytes for layer in image.layers) > limits.max_bytes:
                raise too_large(image.origin, limits.max_bytes)
            files = source.fetch(image, progress)
        with artefacts.locked(progress) as lock:
            root = _find(artefacts, image)
            if root is None:  # without files only if somebody has removed it in this moment
                files = files or source.fetch(image, progress)
                root = _make(artefacts, image, files, limits=limits, held_lock=lock, progress=progress)
            yield root
    except (CorruptData, InvalidRequest, LimitExceeded, OutOfSpace):
        source.settle()  # another attempt will not go better with the same data
        raise
    source.settle()


def check_privileges() -> None:
    """Raise `MissingDependency` (code `needs-root`) unless files of several users can be made."""
    if os.geteuid() != 0:
        raise MissingDependency(
            "images can only be imported as root: their files belong to several users",
            hint="run the daemon as root, or point BHATTI_IMAGES_DIR at images that root has imported",
            code="needs-root",
        )


def _find(artefacts: ArtefactStore, image: ResolvedImage) -> Artefact | None:
    return artefacts.find_intact(KIND, input_key(RECIPE, _inputs(image)), RECIPE)


def _make(
    artefacts: ArtefactStore,
    image: ResolvedImage,
    files: Sequence[BinaryIO],
    *,
    limits: Limits,
    held_lock: int,
    progress: Progress,
) -> Artefact:
    with artefacts.staging() as work:
        root, made = work / "root", work / "files"
        root.mkdir()
        root.chmod(0o755)
        made.mkdir()
        remarks = unpack(image, files, root, limits, progress)
        progress("file system", 0, 1)
        make_tree_image(made / "root.ext4", root, label="bhatti-image", held_lock=held_lock)
        (made / FILE_NAME).write_bytes(msgspec.json.encode(image.config.image_config()))
        artefact = artefacts.commit(made, KIND, RECIPE, _inputs(image), {"source": image.origin} | remarks)
        progress("file system", 1, 1)
        return artefact


def _inputs(image: ResolvedImage) -> dict[str, str]:
    return {"image": image.config_digest}
