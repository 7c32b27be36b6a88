"""What people write when they name an image to be imported, and which source that is."""

from pathlib import Path

from bhatti.errors import InvalidRequest
from bhatti.images.oci.archive import ArchiveSource
from bhatti.images.oci.layout import LayoutSource
from bhatti.images.oci.source import ImageSource

KINDS = ("docker-archive:FILE", "oci-archive:FILE", "oci:DIR")


def open_source(text: str) -> ImageSource:
    """Return the source on this machine that `text` names: `docker-archive:FILE[:TAG]`, `oci:DIR[:NAME]`, ….

    Nothing is read yet. Raises `InvalidRequest` (code `bad-source`).
    """
    kind, colon, rest = text.partition(":")
    if not colon or not rest or kind not in ("docker-archive", "oci-archive", "oci"):
        raise InvalidRequest(
            f"{text[:200]!r} names nothing to import from",
            hint=f"write {', '.join(KINDS[:-1])} or {KINDS[-1]}; for a registry: bhatti image pull",
            code="bad-source",
        )
    if "\0" in rest:
        raise InvalidRequest(
            "a path holds a NUL", hint="for example docker-archive:/path/to/file.tar", code="bad-source"
        )
    path, ref = split_path(rest)
    return LayoutSource(path, ref) if kind == "oci" else ArchiveSource(path, ref, kind=kind)


def split_path(text: str) -> tuple[Path, str]:
    """Split `PATH:REF` where the path ends: paths may have colons in them, and so may tags."""
    path, ref = text, ""
    while not Path(path).exists():
        path, colon, last = path.rpartition(":")
        if not colon:
            return Path(text), ""
        ref = f"{last}:{ref}" if ref else last
    return Path(path), ref
