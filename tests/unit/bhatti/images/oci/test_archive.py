import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.bhatti.images.oci.conftest import Skopeo
from tests.unit.bhatti.images.oci.making import (
    MadeImage,
    archive,
    file,
    make_image,
    make_index,
    plain,
    sha256,
    symlink,
    write_layout,
)

from bhatti.errors import BhattiError, CorruptData, InvalidRequest, NotFound
from bhatti.images.artefacts import silent
from bhatti.images.oci.archive import ArchiveSource
from bhatti.images.oci.source import ResolvedImage


def image(content: bytes = b"x") -> MadeImage:
    return make_image([archive([file("a", content)]), archive([file("b", content)])], pack=plain)


def old_save(path: Path, *images: tuple[MadeImage, list[str] | None], **changes: object) -> Path:
    """Write what `docker save` wrote until version 24: a directory for each layer, shared ones as links."""
    items, described = [], []
    stored: dict[bytes, str] = {}
    for made, tags in images:
        layers = []
        for number, tar in enumerate(made.tars):
            name = f"{made.config.digest[7:20]}{number}/layer.tar"
            items.append(symlink(name, f"../{stored[tar]}") if tar in stored else file(name, tar))
            stored.setdefault(tar, name)
            layers.append(name)
        config = f"{made.config.digest[7:]}.json"
        items.append(file(config, made.config.data))
        described.append({"Config": config, "RepoTags": tags, "Layers": layers, **changes})
    items += [file("manifest.json", json.dumps(described).encode()), file("repositories", b"{}")]
    path.write_bytes(archive(items))
    return path


def new_save(path: Path, made: MadeImage, *, docker: bool = True) -> Path:
    """Write what `docker save` writes since version 25: an OCI layout with a manifest.json beside it."""

    def blob(digest: str) -> str:
        return f"blobs/sha256/{digest[7:]}"

    items = [file(blob(b.digest), b.data) for b in made.blobs]
    items += [file("oci-layout", b"{}"), file("index.json", make_index(made.manifest.descriptor).data)]
    described = {
        "Config": blob(made.config.digest),
        "RepoTags": ["team/app:1.0"],
        "Layers": [blob(layer.digest) for layer in made.layers],
    }
    if docker:
        items.append(file("manifest.json", json.dumps([described]).encode()))
    path.write_bytes(archive(items))
    return path


def resolve(path: Path, ref: str = "") -> ResolvedImage:
    with ArchiveSource(path, ref) as source:
        return source.resolve(path.parent, silent)


def check(source: ArchiveSource, made: MadeImage, workspace: Path) -> None:
    with source:
        found = source.resolve(workspace, silent)
        assert found.config_digest == made.config.digest
        assert [layer.diff_id for layer in found.layers] == [sha256(tar) for tar in made.tars]
        files = source.fetch(found, silent)
        assert [f.read() for f in files] == made.tars
        source.settle()
    assert all(f.closed for f in files)


def test_an_old_archive_is_read(tmp_path: Path) -> None:
    made = image()
    source = ArchiveSource(old_save(tmp_path / "saved.tar", (made, ["alpine:3.19"])))
    check(source, made, tmp_path)
    assert source.suggested_name() == "alpine-3.19"


def test_a_new_archive_is_read(tmp_path: Path) -> None:
    made = image()
    source = ArchiveSource(new_save(tmp_path / "saved.tar", made))
    check(source, made, tmp_path)
    assert source.suggested_name() == "app-1.0"


def test_a_layout_in_an_archive_is_read(tmp_path: Path) -> None:
    made = image()
    source = ArchiveSource(new_save(tmp_path / "layout.tar", made, docker=False), kind="oci-archive")
    check(source, made, tmp_path)
    assert (source.suggested_name(), source.origin) == ("layout", f"oci-archive:{tmp_path}/layout.tar")


def test_a_compressed_archive_is_read(tmp_path: Path) -> None:
    made = image()
    saved = old_save(tmp_path / "saved.tar", (made, None))
    packed = tmp_path / "my.image.tar.gz"
    packed.write_bytes(gzip.compress(saved.read_bytes()))
    source = ArchiveSource(packed)
    check(source, made, tmp_path)
    assert source.suggested_name() == "my"


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_archives_of_skopeo_are_read(tmp_path: Path, skopeo: Skopeo, kind: str) -> None:
    made = image()
    path = write_layout(tmp_path / "layout", made, names=["x"])
    skopeo.copy(f"oci:{path}:x", f"{kind}:{tmp_path / 'saved.tar'}:example/thing:2")
    with ArchiveSource(tmp_path / "saved.tar", kind=kind) as source:
        found = source.resolve(tmp_path, silent)
        assert [layer.diff_id for layer in found.layers] == [sha256(tar) for tar in made.tars]
        assert source.suggested_name() in ("thing-2", "example/thing:2")
        assert len(source.fetch(found, silent)) == 2


def test_one_of_several_images_is_chosen_by_its_tag(tmp_path: Path) -> None:
    first, second = image(b"1"), image(b"2")
    second.tars[0] = first.tars[0]
    second = make_image(second.tars, pack=plain)
    path = old_save(tmp_path / "saved.tar", (first, ["a:1"]), (second, ["docker.io/library/a:2", "b:latest"]))
    assert resolve(path, "a:2").config_digest == second.config.digest
    check(ArchiveSource(path, "b"), second, tmp_path)
    with pytest.raises(InvalidRequest, match="has 2 images: a:1, b:latest") as ambiguous:
        resolve(path)
    assert ambiguous.value.code == "ambiguous-image"
    with pytest.raises(NotFound, match="no image of that name"):
        resolve(path, "a:3")


@pytest.mark.parametrize(
    "changes",
    [{"Config": "no.json"}, {"Layers": ["no/layer.tar", "no/layer.tar"]}, {"Layers": ["../../etc/passwd"] * 2}],
)
def test_an_archive_that_lacks_a_member_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(CorruptData, match="has no member") as caught:
        resolve(old_save(tmp_path / "saved.tar", (image(), None), **changes))
    assert caught.value.code == "image-incomplete"


def test_a_configuration_that_does_not_have_its_digest_is_found_out(tmp_path: Path) -> None:
    first, second = image(b"1"), image(b"2")
    path = old_save(tmp_path / "saved.tar", (first, None))
    path.write_bytes(path.read_bytes().replace(first.config.digest[7:].encode(), second.config.digest[7:].encode()))
    with pytest.raises(BhattiError) as caught:
        resolve(old_save(tmp_path / "wrong.tar", (first, None), Config=f"{second.config.digest[7:]}.json"))
    assert caught.value.code == "image-incomplete"
    renamed = archive(
        [file("a" * 64 + ".json", first.config.data),
         file("manifest.json", json.dumps([{"Config": "a" * 64 + ".json", "Layers": ["l", "l"]}]).encode())]
    )  # fmt: skip
    path.write_bytes(renamed)
    with pytest.raises(CorruptData) as lied:
        resolve(path)
    assert lied.value.code == "digest-mismatch"


@pytest.mark.parametrize("manifest", [b"{", b"{}", b"[]", b'[{"Config": 5}]', b'[{"Config": "x"}]'])
def test_a_description_that_makes_no_sense_is_named(tmp_path: Path, manifest: bytes) -> None:
    path = tmp_path / "saved.tar"
    path.write_bytes(archive([file("manifest.json", manifest)]))
    with pytest.raises(BhattiError) as caught:
        resolve(path)
    assert caught.value.code in ("bad-manifest", "ambiguous-image")


def test_an_archive_of_something_else_and_none_at_all(tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    path.write_bytes(archive([file("etc/passwd")]))
    with pytest.raises(InvalidRequest) as caught:
        resolve(path)
    assert caught.value.code == "not-a-layout"
    with pytest.raises(NotFound) as missing:
        resolve(tmp_path / "missing.tar")
    assert missing.value.code == "no-such-file"
