import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.errors import BhattiError, CorruptData, InvalidRequest, NotFound
from bhatti.images.image_config import ImageConfig
from bhatti.images.oci import documents
from bhatti.images.oci.documents import Configuration, Index, Manifest, RootFs

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def descriptor(digest: str = DIGEST, **extra: object) -> dict[str, Any]:
    return {"mediaType": "x", "digest": digest, "size": 1, **extra}


def platform(os: str, architecture: str, variant: str = "") -> dict[str, str]:
    return {"os": os, "architecture": architecture, "variant": variant}


def parse(document: object) -> Manifest | Index:
    return documents.parse_manifest(json.dumps(document).encode(), "test")


def index(*manifests: dict[str, Any]) -> Index:
    parsed = parse({"schemaVersion": 2, "manifests": list(manifests)})
    assert isinstance(parsed, Index)
    return parsed


def manifest(**changes: object) -> dict[str, Any]:
    config = descriptor(mediaType=documents.CONFIG_TYPES[0])
    return {"schemaVersion": 2, "config": config, "layers": [descriptor()], **changes}


def test_a_document_says_itself_what_it_is() -> None:
    assert isinstance(parse(manifest()), Manifest)
    assert isinstance(parse({"manifests": []}), Index)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "Expected"),
        ({}, "config"),
        (manifest(manifests=[]), "an index and a manifest at the same time"),
        (manifest(layers=[descriptor("sha256:x")]), "digest"),
        (manifest(layers=[descriptor("../../etc/passwd")]), "digest"),
        (manifest(layers=[descriptor(size=-1)]), "size"),
        (manifest(layers=[descriptor(size="1")]), "size"),
        (manifest(layers=[descriptor()] * (documents.MAX_LAYERS + 1)), "layers"),
    ],
)
def test_a_document_that_does_not_fit_is_refused(document: object, reason: str) -> None:
    with pytest.raises(CorruptData, match=reason) as caught:
        parse(document)
    assert caught.value.code == "bad-manifest"


def test_what_is_no_json_is_refused() -> None:
    for content in (b"", b"<html>", b"\xff", b"[" * 100_000, b" " * (documents.MAX_DOCUMENT_BYTES + 1)):
        with pytest.raises(CorruptData):
            documents.parse_manifest(content, "test")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"schemaVersion": 1, "fsLayers": [], "history": []}, "schema 1"),
        (manifest(config=descriptor(mediaType="application/vnd.cncf.helm.config.v1+json")), "no container image"),
    ],
)
def test_good_documents_that_are_no_images_for_us_are_named(document: object, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        parse(document)
    assert caught.value.code == "image-unsupported"


def test_the_manifest_for_our_guests_is_chosen() -> None:
    found = documents.choose_manifest(
        index(
            descriptor(OTHER, platform=platform("linux", "arm64", "v8")),
            descriptor(OTHER, platform=platform("windows", "amd64")),
            descriptor(OTHER, platform=platform("linux", "amd64", "v3")),
            descriptor(DIGEST, platform=platform("linux", "amd64")),
        ),
        "test",
    )
    assert found.digest == DIGEST


def test_a_single_manifest_without_a_platform_is_taken_on_trust() -> None:
    unnamed = descriptor(DIGEST)
    named = descriptor(OTHER, platform=platform("unknown", "unknown"))
    assert documents.choose_manifest(index(unnamed, named), "test").digest == DIGEST


def test_without_our_platform_those_that_there_are_get_named() -> None:
    there = index(
        descriptor(platform=platform("linux", "arm64", "v8")),
        descriptor(platform=platform("unknown", "unknown")),
        descriptor(platform=platform("windows", "amd64")),
    )
    with pytest.raises(NotFound, match=r"linux/amd64, only for linux/arm64/v8, windows/amd64(\n|$)") as caught:
        documents.choose_manifest(there, "test")
    assert caught.value.code == "platform-not-found"
    with pytest.raises(NotFound, match="no platform at all"):
        documents.choose_manifest(index(), "test")


def configuration(document: object, layers: int = 1) -> Configuration:
    return documents.parse_configuration(json.dumps(document).encode(), layers, "test")


def test_the_configuration_says_how_to_run_programs() -> None:
    parsed = configuration(
        {
            "os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
            "config": {
                "Env": ["PATH=/bin", "A=b=c", "EMPTY=", "NOVALUE", "=x"], "Entrypoint": ["/init"], "Cmd": ["-v"],
                "User": "1000:1000", "WorkingDir": "/srv", "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}},
                "StopSignal": "SIGINT", "Healthcheck": {"Test": ["NONE"]},
            },
        }
    )  # fmt: skip
    assert parsed.rootfs == RootFs([DIGEST])
    assert parsed.image_config() == ImageConfig(
        env={"PATH": "/bin", "A": "b=c", "EMPTY": "", "NOVALUE": ""},
        entrypoint=("/init",),
        command=("-v",),
        user="1000:1000",
        directory="/srv",
        labels={"a": "b"},
        ports=("80/tcp",),
        stop_signal="SIGINT",
    )


@pytest.mark.parametrize(
    "config", [None, {}, {"Env": None, "Cmd": None, "Entrypoint": None, "Labels": None, "ExposedPorts": None}]
)
def test_a_configuration_that_says_nothing_is_an_empty_one(config: object) -> None:
    document = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}, "config": config}
    assert configuration(document, 0).image_config() == ImageConfig()


def test_an_image_for_another_machine_is_refused() -> None:
    with pytest.raises(NotFound, match="is for linux/arm64, not for linux/amd64"):
        configuration({"os": "linux", "architecture": "arm64", "rootfs": {"diff_ids": [DIGEST]}})
    with pytest.raises(NotFound, match="unknown platform"):
        configuration({"rootfs": {"diff_ids": [DIGEST]}})


def test_configuration_and_manifest_must_have_the_same_layers() -> None:
    with pytest.raises(CorruptData, match="it lists 1 layers and the manifest 2"):
        configuration({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [DIGEST]}}, 2)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["manifests", "layers", "config", "digest", "size", "platform", "os", "schemaVersion",
                             "rootfs", "diff_ids", "architecture", "Env", "fsLayers"]),
            inner, max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
def test_any_json_is_taken_or_refused_with_one_of_our_errors(value: object) -> None:
    content = json.dumps(value).encode()
    codes = set()
    for read in (
        lambda: documents.parse_manifest(content, "test"),
        lambda: documents.parse_configuration(content, 0, "test"),
    ):
        try:
            read()
        except BhattiError as error:
            codes.add(error.code)
    assert codes <= {"bad-manifest", "image-unsupported", "platform-not-found"}
