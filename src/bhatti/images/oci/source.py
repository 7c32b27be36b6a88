"""What an image is imported from. This file has the only copy of these docstrings."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from bhatti.images.artefacts import Progress
from bhatti.images.oci.documents import Configuration


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One layer: where its source has it, how long it is there, and the digest of what it unfolds to."""

    location: str
    size_bytes: int
    diff_id: str


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """An image that was found, before its layers are read.

    `config_digest` identifies it: the configuration holds the digests of all layers, so that equal digests mean equal
    root file systems, wherever they come from and however they are compressed. `origin` names the image for people.
    """

    origin: str
    config_digest: str
    config: Configuration
    layers: tuple[LayerInfo, ...]


class ImageSource(abc.ABC):
    """One image somewhere else. A context manager: leaving it closes all files. All methods block."""

    origin: str
    """The image as people name it."""

    @abc.abstractmethod
    def resolve(self, workspace: Path, progress: Progress) -> ResolvedImage:
        """Find the image and read its documents, digests verified.

        `workspace` is a directory of ours on the disk where images are. Raises `NotFound` (codes `image-not-found`,
        `platform-not-found`), `CorruptData` (`digest-mismatch`, `bad-manifest`), `InvalidRequest`
        (`image-unsupported`, `ambiguous-image`), and what reading from there can raise.
        """

    @abc.abstractmethod
    def fetch(self, image: ResolvedImage, progress: Progress) -> Sequence[BinaryIO]:
        """Return the layers as seekable files, as they are stored, their digests verified if they have any.

        They are good until the source is closed, whatever happens to their names. Raises like `resolve`.
        """

    @abc.abstractmethod
    def suggested_name(self) -> str:
        """Return what the image may be called here; good after `resolve`. Not checked against our rules for names."""

    @abc.abstractmethod
    def settle(self) -> None:
        """The image is registered: remove what was only kept in case of a failure."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close all files. Idempotent."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Call `close`."""
        self.close()
