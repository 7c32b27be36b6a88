import base64
import json
import os
import subprocess
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.bhatti.images.oci.conftest import PASSWORD, USER, Skopeo, running_registry
from tests.unit.bhatti.images.oci.making import (
    MadeImage,
    archive,
    file,
    make_image,
    make_index,
    write_blob,
    write_layout,
    zstd,
)
from tests.unit.bhatti.images.oci.serving import (
    FakeRegistry,
    Request,
    Respond,
    Server,
    certificate,
    serving,
    truncated,
)

from bhatti.errors import CorruptData, InvalidRequest, NotFound, Unavailable
from bhatti.images.artefacts import silent
from bhatti.images.oci.credentials import Credentials
from bhatti.images.oci.download import Retry
from bhatti.images.oci.pull import RegistrySource
from bhatti.images.oci.reference import parse_reference
from bhatti.images.oci.source import ResolvedImage

Serve = Callable[[Respond], Server]
NO_WAIT = Retry(attempts=3, first_delay_s=0)


def image(content: bytes = b"x") -> MadeImage:
    return make_image([archive([file(f"f{i}", content + os.urandom(100_000))]) for i in range(5)])


def source(reference: str, credentials: Credentials | None = None) -> RegistrySource:
    return RegistrySource(parse_reference(reference), credentials=credentials, retry=NO_WAIT)


def pull(workspace: Path, reference: str, credentials: Credentials | None = None) -> tuple[ResolvedImage, list[bytes]]:
    with source(reference, credentials) as found:
        resolved = found.resolve(workspace, silent)
        layers = [opened.read() for opened in found.fetch(resolved, silent)]
        found.settle()
    return resolved, layers


def check(workspace: Path, reference: str, made: MadeImage, credentials: Credentials | None = None) -> None:
    resolved, layers = pull(workspace, reference, credentials)
    assert resolved.config_digest == made.config.digest
    assert layers == [layer.data for layer in made.layers]
    assert list((workspace / "downloads").iterdir()) == []


def test_a_real_registry_gives_what_skopeo_put_there(tmp_path: Path, registry: str, skopeo: Skopeo) -> None:
    made = image()
    skopeo.push(made, f"{registry}/team/app:1.0")
    check(tmp_path, f"{registry}/team/app:1.0", made)
    check(tmp_path, f"{registry}/team/app@{made.manifest.digest}", made)


def test_a_real_registry_gives_manifests_of_dockers_kind_and_zstd(
    tmp_path: Path, registry: str, skopeo: Skopeo
) -> None:
    made = image()
    skopeo.push(made, f"{registry}/docker:1", "--format=v2s2")
    resolved, layers = pull(tmp_path, f"{registry}/docker:1")
    assert [layer.diff_id for layer in resolved.layers] == json.loads(made.config.data)["rootfs"]["diff_ids"]
    assert layers == [layer.data for layer in made.layers]
    packed = make_image(made.tars, pack=zstd)
    skopeo.push(packed, f"{registry}/zstd:1")
    check(tmp_path, f"{registry}/zstd:1", packed)


def test_a_real_registry_with_an_index_gives_the_image_for_our_platform(
    tmp_path: Path, registry: str, skopeo: Skopeo
) -> None:
    ours, other = image(), make_image([archive([file("arm")])], platform={"os": "linux", "architecture": "arm64"})
    index = make_index(
        other.manifest.descriptor | {"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        ours.manifest.descriptor | {"platform": {"os": "linux", "architecture": "amd64"}},
    )
    named = index.descriptor | {"annotations": {"org.opencontainers.image.ref.name": "pushed"}}
    layout = write_layout(tmp_path / "index", ours, other, index=make_index(named))
    write_blob(layout, index)
    skopeo.push(ours, f"{registry}/multi:1", "--all", layout=layout)
    resolved, _ = pull(tmp_path, f"{registry}/multi:1")
    assert resolved.config_digest == ours.config.digest
    assert resolved.origin == f"{registry}/multi:1@{index.digest}"
    with pytest.raises(NotFound) as caught:
        pull(tmp_path, f"{registry}/multi@{other.manifest.digest}")
    assert caught.value.code == "platform-not-found"


def test_a_real_registry_without_the_image_says_so(tmp_path: Path, registry: str, skopeo: Skopeo) -> None:
    skopeo.push(image(), f"{registry}/there:1")
    for name in ("there:2", "nowhere:1", "there@sha256:" + "0" * 64):
        with pytest.raises(NotFound, match=r"the registry answered 404 .MANIFEST_UNKNOWN") as caught:
            pull(tmp_path, f"{registry}/{name}")
        assert caught.value.code == "image-not-found"


def test_a_locked_registry_opens_with_the_password_given_or_stored(
    tmp_path: Path, locked_registry: str, skopeo: Skopeo, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = image()
    reference = f"{locked_registry}/private:1"
    skopeo.push(made, reference, f"--dest-creds={USER}:{PASSWORD}")
    check(tmp_path, reference, made, Credentials(USER, PASSWORD))
    for wrong in (None, Credentials(USER, "wrong"), Credentials("mallory", PASSWORD)):
        with pytest.raises(InvalidRequest, match=r"answered 401 .UNAUTHORIZED") as caught:
            pull(tmp_path, reference, wrong)
        assert caught.value.code == "registry-denied"
    stored = tmp_path / "docker"
    stored.mkdir()
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (stored / "config.json").write_text(json.dumps({"auths": {locked_registry: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(stored))
    check(tmp_path, reference, made)


class TokenServer:
    """Signs tokens for a real registry: JWT with RS256, the certificate in the header, as its documents say."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._key = key
        der = subprocess.run(
            ["openssl", "x509", "-in", cert, "-outform", "DER"], capture_output=True, check=True
        ).stdout
        self._certificate = base64.b64encode(der).decode()

    def __call__(self, request: Request) -> None:
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request.path).query))
        given = request.headers.get("Authorization", "")
        if given != Credentials(USER, PASSWORD).basic():
            request.answer(401)
            return
        kind, name, actions = query["scope"].split(":")
        now = int(time.time())
        token = ".".join(
            self._encode(json.dumps(part).encode())
            for part in (
                {"typ": "JWT", "alg": "RS256", "x5c": [self._certificate]},
                {"iss": "test", "sub": USER, "aud": query["service"], "exp": now + 300, "nbf": now - 5, "iat": now,
                 "jti": "1", "access": [{"type": kind, "name": name, "actions": actions.split(",")}]},
            )
        )  # fmt: skip
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self._key], input=token.encode(), capture_output=True, check=True
        ).stdout
        request.answer(200, json.dumps({"token": f"{token}.{self._encode(signed)}"}).encode())

    @staticmethod
    def _encode(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")


def test_a_real_registry_with_tokens_opens_for_whoever_the_token_server_knows(tmp_path: Path, skopeo: Skopeo) -> None:
    cert, key = certificate(tmp_path)
    with serving(TokenServer(cert, key)) as tokens:
        auth = (
            f"auth: {{token: {{realm: '{tokens.url}/token', service: test-registry, issuer: test, "
            f"rootcertbundle: {cert}}}}}\n"
        )
        with running_registry(tmp_path, auth=auth) as host:
            made = image()
            skopeo.push(made, f"{host}/private:1", f"--dest-creds={USER}:{PASSWORD}")
            check(tmp_path, f"{host}/private:1", made, Credentials(USER, PASSWORD))
            with pytest.raises(InvalidRequest, match="gives us no token") as caught:
                pull(tmp_path, f"{host}/private:1", Credentials(USER, "wrong"))
            assert caught.value.code == "registry-denied"


def test_a_real_registry_over_tls(tmp_path: Path, skopeo: Skopeo, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = certificate(tmp_path)
    with running_registry(tmp_path, http=f", tls: {{certificate: {cert}, key: {key}}}") as host:
        made = image()
        skopeo.push(made, f"{host}/safe:1")
        with pytest.raises(Unavailable) as caught:
            pull(tmp_path, f"https://{host}/safe:1")
        assert caught.value.code == "registry-untrusted"
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        check(tmp_path, f"https://{host}/safe:1", made)


def test_a_registry_that_is_down_is_named(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_registry(tmp_path_factory.mktemp("down")) as host:
        pass
    with pytest.raises(Unavailable, match=f"{host} cannot be reached: Connection refused") as caught:
        pull(tmp_path, f"{host}/app:1")
    assert caught.value.code == "registry-unreachable"


def test_layers_are_told_of_and_downloaded_once(tmp_path: Path, serve: Serve) -> None:
    layer = archive([file("same", os.urandom(50_000))])
    made = make_image([layer, archive([file("other")]), layer])
    fake = FakeRegistry()
    fake.add(made, "v1")
    server = serve(fake)
    told: list[tuple[str, int, int]] = []
    with source(f"{server.host}/app:v1") as found:
        resolved = found.resolve(tmp_path, lambda *now: told.append(now))
        assert told == [("resolve", 0, 1), ("resolve", 1, 1)]
        files = found.fetch(resolved, lambda *now: told.append(now))
        assert [f.seek(0) or f.read() for f in files] == [blob.data for blob in made.layers]
    assert all(f.closed for f in files)
    total = len(made.layers[0].data) + len(made.layers[1].data)
    assert told[-1] == ("download", total, total)
    assert sum(made.layers[0].digest in path for path in server.paths()) == 1


def test_a_lying_registry_is_found_out_and_leaves_nothing(tmp_path: Path, serve: Serve) -> None:
    made = image()
    fake = FakeRegistry()
    fake.add(made, "v1")
    wrong = bytes(len(made.layers[3].data))
    fake.overrides[made.layers[3].digest] = lambda request: request.answer(200, wrong)
    with pytest.raises(CorruptData, match="is not what it is said to be") as caught:
        pull(tmp_path, f"{serve(fake).host}/app:v1")
    assert caught.value.code == "digest-mismatch"
    names = [path.name for path in (tmp_path / "downloads").iterdir()]
    assert made.layers[3].digest.replace(":", "-") not in names


def test_whoever_ends_the_progress_ends_the_pull(tmp_path: Path, serve: Serve) -> None:
    fake = FakeRegistry()
    fake.add(made := image(), "v1")

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "download" and done:
            raise KeyboardInterrupt

    with source(f"{serve(fake).host}/app:v1") as found:
        resolved = found.resolve(tmp_path, silent)
        with pytest.raises(KeyboardInterrupt):
            found.fetch(resolved, stop)
    check(tmp_path, f"{serve(fake).host}/app:v1", made)


def test_what_came_before_the_registry_went_down_is_not_fetched_again(tmp_path: Path, serve: Serve) -> None:
    made = image()
    fake = FakeRegistry()
    fake.add(made, "v1")
    broken = made.layers[2]
    fake.overrides[broken.digest] = lambda request: request.answer(503)
    server = serve(fake)
    with pytest.raises(Unavailable):
        pull(tmp_path, f"{server.host}/app:v1")
    assert (tmp_path / "downloads").exists()
    del fake.overrides[broken.digest]
    before = len(server.seen)
    check(tmp_path, f"{server.host}/app:v1", made)
    again = [path for path in server.paths()[before:] if made.layers[0].digest in path]
    assert again == []


def test_a_connection_that_breaks_in_every_layer_still_ends_well(tmp_path: Path, serve: Serve) -> None:
    made = image()
    fake = FakeRegistry()
    fake.add(made, "v1")
    for layer in made.layers:
        breaks: list[Respond] = [truncated(layer.data, 50_000)]

        def respond(request: Request, data: bytes = layer.data, breaks: list[Respond] = breaks) -> None:
            breaks.pop()(request) if breaks else fake.send_blob(request, data)

        fake.overrides[layer.digest] = respond
    check(tmp_path, f"{serve(fake).host}/app:v1", made)


def test_indices_without_end_are_refused(tmp_path: Path, serve: Serve) -> None:
    fake = FakeRegistry()
    inner = image().manifest
    for _ in range(6):
        inner = make_index(inner.descriptor)
        fake.manifests[inner.digest] = inner
    fake.manifests["v1"] = inner
    with pytest.raises(InvalidRequest, match="indices in one another"):
        pull(tmp_path, f"{serve(fake).host}/app:v1")
