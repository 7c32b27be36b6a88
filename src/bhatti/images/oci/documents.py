"""The JSON documents of an image: index, manifest, configuration (OCI image specification; Docker's schema 2).

All of it comes from strangers: sizes are bounded before decoding, and what does not fit the types is `CorruptData`.
"""

from typing import Annotated, TypeVar

import msgspec

from bhatti.errors import CorruptData, InvalidRequest, NotFound
from bhatti.images.image_config import ImageConfig
from bhatti.images.oci.digest import Digest

MAX_DOCUMENT_BYTES = 4 << 20
"""What registries accept for a manifest; a configuration with a long history is some 100 KiB."""

MAX_LAYERS = 512
"""Docker stops at 127."""

OS, ARCHITECTURE = "linux", "amd64"
"""What our guests are."""

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
CONFIG_TYPES = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)

T = TypeVar("T")


class Platform(msgspec.Struct, frozen=True):
    """What a manifest of an index is for."""

    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        """Write it as `linux/arm64/v8`."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """A piece of content: what it is, its digest, its size in bytes."""

    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]
    media_type: str = ""
    platform: Platform | None = None
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, frozen=True, rename="camel"):
    """A list of manifests, one for each platform."""

    manifests: Annotated[list[Descriptor], msgspec.Meta(max_length=4096)]


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """An image for one platform: its configuration and its layers, the lowest first."""

    config: Descriptor
    layers: Annotated[list[Descriptor], msgspec.Meta(max_length=MAX_LAYERS)]


class RootFs(msgspec.Struct, frozen=True):
    """The digests of the layers, uncompressed."""

    diff_ids: Annotated[list[Digest], msgspec.Meta(max_length=MAX_LAYERS)]


class Execution(msgspec.Struct, frozen=True, rename="pascal"):
    """How the image wants programs to be run; every field may be absent or null."""

    user: str | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    exposed_ports: dict[str, object] | None = None
    stop_signal: str | None = None


class Configuration(msgspec.Struct, frozen=True):
    """The configuration of an image, so far as it matters here."""

    rootfs: RootFs
    os: str = ""
    architecture: str = ""
    config: Execution | None = None

    def image_config(self) -> ImageConfig:
        """Return how to run programs, in our own words."""
        raw = self.config or Execution()
        env = (item.partition("=") for item in raw.env or [] if "\0" not in item)
        return ImageConfig(
            env={name: value for name, _, value in env if name},
            entrypoint=tuple(raw.entrypoint or ()),
            command=tuple(raw.cmd or ()),
            user=raw.user or "",
            directory=raw.working_dir or "",
            labels=raw.labels or {},
            ports=tuple(raw.exposed_ports or ()),
            stop_signal=raw.stop_signal or "",
        )


class _Shape(msgspec.Struct, frozen=True, rename="camel"):
    """Which kind of document it is."""

    schema_version: int | None = None
    media_type: str = ""
    manifests: object = None
    layers: object = None
    config: object = None
    fs_layers: object = None


def parse_manifest(content: bytes, origin: str) -> Manifest | Index:
    """Decode a manifest or an index; `origin` names the image for people.

    What it is, it says itself. One that could be read as both is refused, as two readers might see two images
    (CVE-2021-41190). Raises `CorruptData` (code `bad-manifest`), `InvalidRequest` (code `image-unsupported`).
    """
    shape = decode(content, _Shape, "manifest", origin)
    if shape.fs_layers is not None or shape.schema_version == 1:
        raise unsupported(origin, "its manifest is of the old schema 1", "push it again with a current tool")
    if shape.manifests is not None and (shape.layers is not None or shape.config is not None):
        raise _bad(origin, "manifest", "it is an index and a manifest at the same time")
    if shape.manifests is not None:
        return decode(content, Index, "index", origin)
    manifest = decode(content, Manifest, "manifest", origin)
    kind = manifest.config.media_type
    if kind and kind not in CONFIG_TYPES:
        raise unsupported(origin, f"it is no container image but something of type {kind[:100]!r}")
    return manifest


def choose_manifest(index: Index, origin: str) -> Descriptor:
    """Return the manifest for our guests. Raises `NotFound` (code `platform-not-found`)."""
    fitting = [d for d in index.manifests if d.platform and _fits(d.platform.os, d.platform.architecture)]
    if fitting:
        # Without a variant, or with the lowest: v2 and above need instructions that an emulated CPU may lack.
        return min(fitting, key=lambda d: d.platform.variant if d.platform else "")
    unnamed = [d for d in index.manifests if d.platform is None]
    if len(unnamed) == 1:
        return unnamed[0]  # its configuration will be asked
    there = sorted({str(d.platform) for d in index.manifests if d.platform} - {"unknown/unknown"})
    raise NotFound(
        f"{origin} has no image for {OS}/{ARCHITECTURE}, only for {', '.join(there) or 'no platform at all'}",
        hint="ask for a tag that has one",
        code="platform-not-found",
    )


def parse_configuration(content: bytes, layers: int, origin: str) -> Configuration:
    """Decode the configuration of an image with that many layers.

    Raises `CorruptData` (code `bad-manifest`), `NotFound` (code `platform-not-found`).
    """
    configuration = decode(content, Configuration, "configuration", origin)
    if not _fits(configuration.os, configuration.architecture):
        platform = Platform(configuration.os, configuration.architecture)
        raise NotFound(
            f"{origin} is for {str(platform) or 'an unknown platform'}, not for {OS}/{ARCHITECTURE}",
            hint="ask for a tag or digest of the right platform",
            code="platform-not-found",
        )
    if len(configuration.rootfs.diff_ids) != layers:
        listed = len(configuration.rootfs.diff_ids)
        raise _bad(origin, "configuration", f"it lists {listed} layers and the manifest {layers}")
    return configuration


def decode(content: bytes, kind: type[T], what: str, origin: str) -> T:
    """Decode a document. Raises `CorruptData` (code `bad-manifest`)."""
    if len(content) > MAX_DOCUMENT_BYTES:
        raise _bad(origin, what, f"it has more than {MAX_DOCUMENT_BYTES} bytes")
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(origin, what, str(error)) from error


def unsupported(origin: str, reason: str, hint: str | None = None) -> InvalidRequest:
    """Return the error for an image that may be good, but not for us."""
    return InvalidRequest(f"{origin} cannot be used: {reason}", hint=hint, code="image-unsupported")


def _fits(os: str, architecture: str) -> bool:
    return (os, architecture) == (OS, ARCHITECTURE)


def _bad(origin: str, what: str, reason: str) -> CorruptData:
    return CorruptData(
        f"the {what} of {origin} makes no sense: {reason}",
        hint="fetch or save the image again; if this stays, it was made wrongly",
        code="bad-manifest",
    )
