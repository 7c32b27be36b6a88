"""An image in an OCI image layout (image-layout.md): a directory of blobs, each named by its digest, and an index."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from bhatti.errors import CorruptData, InvalidRequest, NotFound
from bhatti.images.artefacts import Progress
from bhatti.images.oci import documents
from bhatti.images.oci.digest import check_bytes, check_file, hex_part
from bhatti.images.oci.documents import Descriptor, Index, Manifest
from bhatti.images.oci.files import DirectoryFiles, Files
from bhatti.images.oci.source import ImageSource, LayerInfo, ResolvedImage

REF_NAME = "org.opencontainers.image.ref.name"
MAX_NESTING = 4
"""Of indices in indices; one in another is usual where an image for several platforms was copied."""


class LayoutSource(ImageSource):
    """An image of a layout in a directory; `ref` chooses one of several."""

    def __init__(self, directory: Path, ref: str = "") -> None:
        self.origin = f"oci:{directory}" + (f":{ref}" if ref else "")
        self._directory = directory
        self._ref = ref
        self._layout: Layout | None = None
        self._open = ExitStack()

    def resolve(self, workspace: Path, progress: Progress) -> ResolvedImage:
        """Find the image."""
        if not self._directory.is_dir():
            raise InvalidRequest(
                f"there is no directory {self._directory}", hint="give the directory of an OCI image layout"
            )
        self._layout = Layout(DirectoryFiles(self._directory), self.origin)
        return self._layout.resolve(self._ref)

    def fetch(self, image: ResolvedImage, progress: Progress) -> Sequence[BinaryIO]:
        """Open the layers."""
        assert self._layout is not None
        return self._layout.fetch(image, self._open, progress)

    def suggested_name(self) -> str:
        """Return what the layout calls the image, or what the directory is called."""
        return (self._layout.ref_name if self._layout else "") or self._directory.absolute().name

    def settle(self) -> None:
        """Nothing was kept."""

    def close(self) -> None:
        """Close all files."""
        self._open.close()


class Layout:
    """A layout in whatever `files` are."""

    def __init__(self, files: Files, origin: str) -> None:
        self._files = files
        self._origin = origin
        self.ref_name = ""

    def resolve(self, ref: str) -> ResolvedImage:
        """Return the image called `ref`, or without one, the only one there is."""
        try:
            index = documents.parse_manifest(self._files.read("index.json"), self._origin)
        except FileNotFoundError as error:
            raise InvalidRequest(
                f"{self._origin} is no OCI image layout: it has no index.json",
                hint="make one with `skopeo copy … oci:DIR` or `docker buildx build --output type=oci,tar=false`",
                code="not-a-layout",
            ) from error
        if not isinstance(index, Index):
            raise documents.unsupported(self._origin, "its index.json is no index")
        chosen = self._choose(index, ref)
        self.ref_name = (chosen.annotations or {}).get(REF_NAME, "")
        manifest = self._manifest(chosen)
        content = self._read(manifest.config, "the configuration")
        config = documents.parse_configuration(content, len(manifest.layers), self._origin)
        layers = tuple(
            LayerInfo(layer.digest, layer.size, diff_id)
            for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=True)
        )
        return ResolvedImage(self._origin, manifest.config.digest, config, layers)

    def fetch(self, image: ResolvedImage, stack: ExitStack, progress: Progress) -> list[BinaryIO]:
        """Open the layers, their digests verified; `stack` closes them."""
        total = sum(layer.size_bytes for layer in image.layers)
        done = 0
        opened = []
        for layer in image.layers:
            progress("verify", done, total)
            file = stack.enter_context(self._open(layer.location, layer.size_bytes, "a layer"))
            check_file(file, layer.location, "a layer", self._origin)
            opened.append(file)
            done += layer.size_bytes
        progress("verify", total, total)
        return opened

    def _choose(self, index: Index, ref: str) -> Descriptor:
        found = index.manifests
        names = sorted({(d.annotations or {}).get(REF_NAME, "") for d in found} - {""})
        if ref:
            found = [d for d in found if (d.annotations or {}).get(REF_NAME, "") == ref]
        if not found:
            raise NotFound(
                f"{self._origin} has no image of that name" if ref else f"{self._origin} has no image at all",
                hint=f"it has {', '.join(names[:10])}" if names else None,
                code="image-not-found",
            )
        if len(found) > 1 and not ref and len(names) > 1:
            raise InvalidRequest(
                f"{self._origin} has {len(names)} images: {', '.join(names[:10])}",
                hint=f"say which: {self._origin}:{names[0]}",
                code="ambiguous-image",
            )
        return found[0] if len(found) == 1 else documents.choose_manifest(Index(found), self._origin)

    def _manifest(self, descriptor: Descriptor) -> Manifest:
        for _ in range(MAX_NESTING):
            document = documents.parse_manifest(self._read(descriptor, "the manifest"), self._origin)
            if isinstance(document, Manifest):
                return document
            descriptor = documents.choose_manifest(document, self._origin)
        raise documents.unsupported(self._origin, f"more than {MAX_NESTING} indices in one another")

    def _read(self, descriptor: Descriptor, what: str) -> bytes:
        try:
            content = self._files.read(_blob(descriptor.digest))
        except FileNotFoundError as error:
            raise _missing(self._origin, what, descriptor.digest) from error
        check_bytes(content, descriptor.digest, what, self._origin)
        return content

    def _open(self, digest: str, size_bytes: int, what: str) -> BinaryIO:
        try:
            found = self._files.size(_blob(digest))
            if found != size_bytes:
                raise CorruptData(
                    f"{what} of {self._origin} ({digest}) has {found} bytes and should have {size_bytes}",
                    hint="save the image again",
                    code="digest-mismatch",
                )
            return self._files.open(_blob(digest))
        except FileNotFoundError as error:
            raise _missing(self._origin, what, digest) from error


def _blob(digest: str) -> str:
    return f"blobs/{digest.partition(':')[0]}/{hex_part(digest)}"


def _missing(origin: str, what: str, digest: str) -> CorruptData:
    return CorruptData(
        f"{what} of {origin} ({digest}) is not there", hint="save the image again, completely", code="image-incomplete"
    )
