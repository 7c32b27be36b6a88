"""An image in a registry, as a source for an import."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from bhatti.errors import OutOfSpace
from bhatti.images.artefacts import Progress, writable
from bhatti.images.oci import documents
from bhatti.images.oci.credentials import Credentials, find_credentials
from bhatti.images.oci.digest import digest_of
from bhatti.images.oci.documents import Manifest
from bhatti.images.oci.download import DIRECTORY, RETRY, Blob, Downloads, Retry
from bhatti.images.oci.layout import MAX_NESTING
from bhatti.images.oci.reference import Reference
from bhatti.images.oci.registry import Registry
from bhatti.images.oci.source import ImageSource, LayerInfo, ResolvedImage

CONNECTIONS = 3
"""Layers that are downloaded at a time: as many as Docker does."""

TOLD_BYTES = 1 << 20
"""How much is downloaded between two words about the progress."""


class _GivenUp(Exception):
    """Another layer has failed: this one is not needed any more."""


class RegistrySource(ImageSource):
    """The image that `reference` names.

    Without `credentials` those of Docker's configuration are used, if it has any for this registry, unless `anonymous`.
    `insecure` allows plain HTTP; registries of this machine are spoken to without TLS anyway.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        credentials: Credentials | None = None,
        anonymous: bool = False,
        insecure: bool = False,
        retry: Retry = RETRY,
    ) -> None:
        self.origin = str(reference)
        self._reference = reference
        self._credentials = credentials
        self._anonymous = anonymous
        self._insecure = insecure
        self._retry = retry
        self._registry: Registry | None = None
        self._downloads: Downloads | None = None
        self._image: ResolvedImage | None = None
        self._open = ExitStack()

    def resolve(self, workspace: Path, progress: Progress) -> ResolvedImage:
        """Ask the registry for the manifest and the configuration."""
        progress("resolve", 0, 1)
        credentials = self._credentials
        if credentials is None and not self._anonymous:
            credentials = find_credentials(self._reference.registry)
        registry = Registry(self._reference, credentials, insecure=self._insecure, retry=self._retry)
        manifest, digest = self._manifest(registry)
        content = registry.document(manifest.config, "the configuration")
        config = documents.parse_configuration(content, len(manifest.layers), self.origin)
        layers = tuple(
            LayerInfo(layer.digest, layer.size, diff_id)
            for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=True)
        )
        self._registry = registry
        self._downloads = Downloads(workspace / DIRECTORY, self._retry)
        progress("resolve", 1, 1)
        origin = self.origin if self._reference.digest else f"{self.origin}@{digest}"
        self._image = ResolvedImage(origin, manifest.config.digest, config, layers)
        return self._image

    def fetch(self, image: ResolvedImage, progress: Progress) -> Sequence[BinaryIO]:
        """Download the layers, some at a time."""
        assert self._registry is not None
        assert self._downloads is not None
        transfer = _Transfer(self._registry, self._downloads, image, progress)
        with writable(self._downloads.directory):
            try:
                files = transfer.run(self._open)
            except OutOfSpace:
                self.settle()
                raise
        return files

    def suggested_name(self) -> str:
        """Return the last part of the repository's name, with the tag."""
        return self._reference.suggested_name

    def settle(self) -> None:
        """Remove the downloaded layers: the image has them now."""
        if self._downloads is not None and self._image is not None:
            self._downloads.forget([layer.location for layer in self._image.layers])

    def close(self) -> None:
        """Close the downloaded layers."""
        self._open.close()

    def _manifest(self, registry: Registry) -> tuple[Manifest, str]:
        """Return the manifest for our guests, and the digest of what the reference names."""
        content, digest = registry.manifest(self._reference.wanted)
        named = digest or digest_of(content)
        for _ in range(MAX_NESTING):
            document = documents.parse_manifest(content, self.origin)
            if isinstance(document, Manifest):
                return document, named
            descriptor = documents.choose_manifest(document, self.origin)
            content, _ = registry.manifest(descriptor.digest)
        raise documents.unsupported(self.origin, f"more than {MAX_NESTING} indices in one another")


class _Transfer:
    """The download of all layers of one image."""

    def __init__(self, registry: Registry, downloads: Downloads, image: ResolvedImage, progress: Progress) -> None:
        self._registry = registry
        self._downloads = downloads
        self._image = image
        self._progress = progress
        self._sizes = {layer.location: layer.size_bytes for layer in image.layers}
        self._done = self._told = 0
        self._lock = threading.Lock()
        self._failed = threading.Event()

    def run(self, stack: ExitStack) -> list[BinaryIO]:
        """Return the layers' files, which `stack` closes; raises what the first failure was."""
        self._count(0)
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="pull") as pool:
            waiting = {digest: pool.submit(self._fetch, digest, size) for digest, size in self._sizes.items()}
            try:
                wait(waiting.values())
            except BaseException:  # somebody has pressed Ctrl-C: nobody waits for the rest
                self._failed.set()
                raise
        errors = [error for future in waiting.values() if (error := future.exception()) is not None]
        opened = {
            digest: stack.enter_context(future.result())
            for digest, future in waiting.items()
            if future.exception() is None
        }
        for error in sorted(errors, key=lambda e: isinstance(e, _GivenUp)):
            raise error
        # An image may have the same layer twice, an empty one mostly; it is read once for each.
        return [opened[layer.location] for layer in self._image.layers]

    def _fetch(self, digest: str, size: int) -> BinaryIO:
        blob = Blob(digest, size, self._image.origin)
        try:
            self._count(0)
            return self._downloads.fetch(blob, lambda start: self._registry.open_blob(digest, start), self._count)
        except BaseException:
            self._failed.set()
            raise

    def _count(self, size: int) -> None:
        if self._failed.is_set():
            raise _GivenUp
        with self._lock:
            self._done += size
            total = sum(self._sizes.values())
            if not 0 < self._done - self._told < TOLD_BYTES or self._done == total:
                self._told = self._done
                self._progress("download", self._done, total)
