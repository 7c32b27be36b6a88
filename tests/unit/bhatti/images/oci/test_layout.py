import json
from pathlib import Path

import pytest
from tests.unit.bhatti.images.oci.conftest import Skopeo
from tests.unit.bhatti.images.oci.making import (
    Blob,
    MadeImage,
    archive,
    file,
    make_image,
    make_index,
    sha256,
    write_blob,
    write_layout,
)

from bhatti.errors import BhattiError, CorruptData, InvalidRequest, NotFound
from bhatti.images.artefacts import silent
from bhatti.images.oci.layout import LayoutSource
from bhatti.images.oci.source import ResolvedImage


def image(content: bytes = b"x") -> MadeImage:
    return make_image([archive([file("a", content)]), archive([file("b", content)])])


def resolve(path: Path, ref: str = "") -> ResolvedImage:
    with LayoutSource(path, ref) as source:
        return source.resolve(path, silent)


def test_the_only_image_is_found_with_its_layers(tmp_path: Path) -> None:
    made = image()
    write_layout(tmp_path / "layout", made)
    with LayoutSource(tmp_path / "layout") as source:
        found = source.resolve(tmp_path, silent)
        assert found.config_digest == made.config.digest
        assert [layer.diff_id for layer in found.layers] == [sha256(tar) for tar in made.tars]
        files = source.fetch(found, silent)
        assert [f.read() for f in files] == [blob.data for blob in made.layers]
        assert source.suggested_name() == "layout"
        source.settle()
    assert all(f.closed for f in files)


def test_one_of_several_is_chosen_by_name(tmp_path: Path) -> None:
    first, second = image(b"1"), image(b"2")
    path = write_layout(tmp_path / "layout", first, second, names=["v1", "v2"])
    assert resolve(path, "v2").config_digest == second.config.digest
    with pytest.raises(InvalidRequest, match=r"has 2 images: v1, v2") as ambiguous:
        resolve(path)
    assert ambiguous.value.code == "ambiguous-image"
    with pytest.raises(NotFound, match="no image of that name") as missing:
        resolve(path, "v3")
    assert (missing.value.code, missing.value.hint) == ("image-not-found", "it has v1, v2")


def test_the_name_in_the_layout_is_suggested(tmp_path: Path) -> None:
    with LayoutSource(write_layout(tmp_path / "layout", image(), names=["alpine-3"])) as source:
        source.resolve(tmp_path, silent)
        assert source.suggested_name() == "alpine-3"


def test_the_platform_is_chosen_in_an_index_within_the_index(tmp_path: Path) -> None:
    ours, other = image(b"ours"), image(b"other")
    inner = make_index(
        other.manifest.descriptor | {"platform": {"os": "linux", "architecture": "arm64"}},
        ours.manifest.descriptor | {"platform": {"os": "linux", "architecture": "amd64"}},
    )
    path = write_layout(tmp_path / "layout", ours, other, index=make_index(inner.descriptor))
    write_blob(path, inner)
    assert resolve(path).config_digest == ours.config.digest


def test_indices_in_one_another_without_end_are_refused(tmp_path: Path) -> None:
    path = write_layout(tmp_path / "layout", image())
    inner = image().manifest
    for _ in range(6):
        inner = make_index(inner.descriptor)
        write_blob(path, inner)
    (path / "index.json").write_bytes(make_index(inner.descriptor).data)
    with pytest.raises(InvalidRequest, match="indices in one another"):
        resolve(path)


def test_layouts_of_skopeo_are_understood(tmp_path: Path, skopeo: Skopeo) -> None:
    made = image()
    path = write_layout(tmp_path / "layout", made, names=["x"])
    skopeo.copy(f"oci:{path}:x", f"oci:{tmp_path / 'copy'}:name:with-colon")
    assert resolve(tmp_path / "copy", "name:with-colon").config_digest == made.config.digest


@pytest.mark.parametrize("which", ["layer", "config", "manifest"])
def test_a_blob_that_was_changed_is_found_out(tmp_path: Path, which: str) -> None:
    made = image()
    path = write_layout(tmp_path / "layout", made)
    blob = {"layer": made.layers[1], "config": made.config, "manifest": made.manifest}[which]
    write_blob(path, blob).write_bytes(blob.data[:-1] + b"?")
    with pytest.raises(CorruptData) as caught, LayoutSource(path) as source:
        source.fetch(source.resolve(tmp_path, silent), silent)
    assert caught.value.code == "digest-mismatch"


@pytest.mark.parametrize("which", ["layer", "config", "manifest"])
def test_a_blob_that_is_missing_or_cut_off_is_named(tmp_path: Path, which: str) -> None:
    made = image()
    path = write_layout(tmp_path / "layout", made)
    blob = {"layer": made.layers[1], "config": made.config, "manifest": made.manifest}[which]
    stored = write_blob(path, blob)
    for change, codes in (
        (lambda: stored.write_bytes(b""), ("digest-mismatch",)),
        (stored.unlink, ("image-incomplete",)),
    ):
        change()
        with pytest.raises(CorruptData) as caught, LayoutSource(path) as source:
            source.fetch(source.resolve(tmp_path, silent), silent)
        assert caught.value.code in codes


def test_a_directory_that_is_no_layout_or_none_at_all_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"has no index\.json") as caught:
        resolve(tmp_path)
    assert caught.value.code == "not-a-layout"
    with pytest.raises(InvalidRequest, match="there is no directory"):
        resolve(tmp_path / "missing")


@pytest.mark.parametrize(
    ("index", "code"),
    [
        (b"{", "bad-manifest"),
        (make_index().data, "image-not-found"),
        (image().manifest.data, "image-unsupported"),
        (json.dumps({"manifests": [{"digest": "../../../etc/passwd", "size": 1}]}).encode(), "bad-manifest"),
    ],
)
def test_an_index_that_makes_no_sense_is_named(tmp_path: Path, index: bytes, code: str) -> None:
    path = write_layout(tmp_path / "layout", image(), index=Blob("", index))
    with pytest.raises(BhattiError) as caught:
        resolve(path)
    assert caught.value.code == code
