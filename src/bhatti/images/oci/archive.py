"""An image in an archive: what `docker save` writes, old and new, or an OCI image layout in a tar file."""

import posixpath
import re
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec

from bhatti.errors import CorruptData, InvalidRequest, NotFound
from bhatti.images.artefacts import Progress
from bhatti.images.oci import documents
from bhatti.images.oci.digest import check_bytes, digest_of
from bhatti.images.oci.files import ArchiveFiles, no_such_file
from bhatti.images.oci.layout import Layout
from bhatti.images.oci.reference import parse_reference
from bhatti.images.oci.source import ImageSource, LayerInfo, ResolvedImage

_HEX = re.compile(r"[0-9a-f]{64}")


class _Saved(msgspec.Struct, frozen=True, rename="pascal"):
    """An image of Docker's manifest.json: names of members."""

    config: str
    layers: Annotated[list[str], msgspec.Meta(max_length=documents.MAX_LAYERS)]
    repo_tags: list[str] | None = None


class ArchiveSource(ImageSource):
    """An image in the archive `path`; `ref` (a tag) chooses one of several."""

    def __init__(self, path: Path, ref: str = "", *, kind: str = "docker-archive") -> None:
        self.origin = f"{kind}:{path}" + (f":{ref}" if ref else "")
        self._path = path
        self._ref = ref
        self._name = ""
        self._files: ArchiveFiles | None = None
        self._layout: Layout | None = None
        self._open = ExitStack()

    def resolve(self, workspace: Path, progress: Progress) -> ResolvedImage:
        """Find the image; Docker's own description goes first where there are two."""
        progress("read", 0, 1)
        try:
            self._files = self._open.enter_context(closing(ArchiveFiles(self._path, workspace)))
        except FileNotFoundError as error:
            raise no_such_file(self._path) from error
        progress("read", 1, 1)
        try:
            described = self._files.read("manifest.json")
        except FileNotFoundError:
            self._layout = Layout(self._files, self.origin)
            image = self._layout.resolve(self._ref)
            self._name = self._layout.ref_name
            return image
        return self._resolve_saved(self._files, described)

    def fetch(self, image: ResolvedImage, progress: Progress) -> Sequence[BinaryIO]:
        """Open the layers. Docker's format has no digests of them as they are stored, only those of the contents."""
        assert self._files is not None
        if self._layout is not None:
            return self._layout.fetch(image, self._open, progress)
        return [self._open.enter_context(self._files.open(layer.location)) for layer in image.layers]

    def suggested_name(self) -> str:
        """Return the name that the image was saved by, or that of the file."""
        return self._name or self._path.name.partition(".")[0]

    def settle(self) -> None:
        """Nothing was kept."""

    def close(self) -> None:
        """Close all files."""
        self._open.close()

    def _resolve_saved(self, files: ArchiveFiles, described: bytes) -> ResolvedImage:
        saved = self._choose(documents.decode(described, list[_Saved], "manifest", self.origin))
        try:
            content = files.read(posixpath.normpath(saved.config))
            stem = posixpath.basename(saved.config).removesuffix(".json")
            if _HEX.fullmatch(stem):
                check_bytes(content, f"sha256:{stem}", "the configuration", self.origin)
            config = documents.parse_configuration(content, len(saved.layers), self.origin)
            layers = []
            for name, diff_id in zip(saved.layers, config.rootfs.diff_ids, strict=True):
                location = posixpath.normpath(name)
                layers.append(LayerInfo(location, files.size(location), diff_id))
        except FileNotFoundError as error:
            raise CorruptData(
                f"{self.origin} has no member {error.filename}", hint="save the image again", code="image-incomplete"
            ) from error
        if saved.repo_tags:
            self._name = parse_reference(saved.repo_tags[0]).suggested_name
        return ResolvedImage(self.origin, digest_of(content), config, tuple(layers))

    def _choose(self, images: list[_Saved]) -> _Saved:
        tags = sorted(tag for image in images for tag in image.repo_tags or [])
        if self._ref:
            wanted = str(parse_reference(self._ref))
            found = [i for i in images if wanted in [str(parse_reference(tag)) for tag in i.repo_tags or []]]
            if not found:
                raise NotFound(
                    f"{self.origin} has no image of that name", hint=f"it has {', '.join(tags)}", code="image-not-found"
                )
            return found[0]
        if len(images) != 1:
            raise InvalidRequest(
                f"{self.origin} has {len(images)} images: {', '.join(tags) or 'none with a name'}",
                hint=f"say which: {self.origin}:{tags[0]}" if tags else "save one image alone",
                code="ambiguous-image",
            )
        return images[0]
