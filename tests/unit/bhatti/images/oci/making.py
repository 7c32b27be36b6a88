"""Make images the way other people's tools do: layers with Python's own tarfile, layouts as the specification says."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AMD64 = {"os": "linux", "architecture": "amd64"}

Pack = Callable[[bytes], bytes]


def plain(data: bytes) -> bytes:
    return data


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-cq"], input=data, capture_output=True, check=True).stdout


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def item(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", /, **fields: object
) -> tuple[tarfile.TarInfo, bytes]:
    """Return an entry; `fields` are those of TarInfo."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    info.size = len(content)
    info.mtime = 1_600_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def file(name: str, content: bytes = b"", /, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    return item(name, tarfile.REGTYPE, content, **fields)


def directory(name: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    return item(name, tarfile.DIRTYPE, **fields)


def symlink(name: str, target: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    return item(name, tarfile.SYMTYPE, linkname=target, **fields)


def hard_link(name: str, target: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    return item(name, tarfile.LNKTYPE, linkname=target, **fields)


def archive(items: Iterable[tuple[tarfile.TarInfo, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for info, content in items:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class Blob:
    """A piece of content with its descriptor."""

    media_type: str
    data: bytes
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return sha256(self.data)

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data), **self.extra}


@dataclass
class MadeImage:
    """An image in memory: its blobs, the manifest among them."""

    layers: list[Blob]
    config: Blob
    manifest: Blob
    tars: list[bytes]

    @property
    def blobs(self) -> list[Blob]:
        return [*self.layers, self.config, self.manifest]


def make_image(
    layers: list[bytes],
    *,
    pack: Pack = gzipped,
    execution: dict[str, Any] | None = None,
    platform: dict[str, str] = AMD64,
    diff_ids: list[str] | None = None,
) -> MadeImage:
    """Return an image of layers given as tar archives."""
    blobs = [Blob("application/vnd.oci.image.layer.v1.tar+gzip", pack(layer)) for layer in layers]
    document = {
        **platform,
        "config": execution or {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids or [sha256(layer) for layer in layers]},
        "history": [{"created_by": "test"}],
    }
    config = Blob("application/vnd.oci.image.config.v1+json", json.dumps(document).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor,
        "layers": [blob.descriptor for blob in blobs],
    }
    return MadeImage(
        blobs, config, Blob("application/vnd.oci.image.manifest.v1+json", json.dumps(manifest).encode()), layers
    )


def make_index(*manifests: dict[str, Any]) -> Blob:
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": list(manifests),
    }
    return Blob("application/vnd.oci.image.index.v1+json", json.dumps(document).encode())


def write_layout(root: Path, *images: MadeImage, names: Iterable[str] = (), index: Blob | None = None) -> Path:
    """Write images as an OCI image layout; `names` are their names in it, `index` replaces the index."""
    (root / "blobs/sha256").mkdir(parents=True)
    (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    descriptors = [image.manifest.descriptor for image in images]
    for descriptor, name in zip(descriptors, names, strict=False):
        descriptor["annotations"] = {"org.opencontainers.image.ref.name": name}
    for image in images:
        for blob in image.blobs:
            write_blob(root, blob)
    (root / "index.json").write_bytes((index or make_index(*descriptors)).data)
    return root


def write_blob(root: Path, blob: Blob) -> Path:
    path = root / "blobs/sha256" / blob.digest.removeprefix("sha256:")
    path.write_bytes(blob.data)
    return path


def tar_of(root: Path) -> bytes:
    """Return a directory of this host as a tar archive, the way GNU tar packs it."""
    done = subprocess.run(
        ["tar", "-C", root, "--numeric-owner", "--sort=name", "-cf", "-", "."], capture_output=True, check=True
    )
    return done.stdout
