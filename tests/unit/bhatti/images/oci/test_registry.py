from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.bhatti.images.oci.making import MadeImage, archive, file, make_image
from tests.unit.bhatti.images.oci.serving import (
    FakeRegistry,
    Request,
    Respond,
    Server,
    certificate,
    serving,
    tls_context,
    truncated,
)

from bhatti.errors import BhattiError, CorruptData, InvalidRequest, NotFound, Unavailable
from bhatti.images.oci.credentials import Credentials
from bhatti.images.oci.documents import Descriptor
from bhatti.images.oci.download import Retry
from bhatti.images.oci.reference import parse_reference
from bhatti.images.oci.registry import Registry
from bhatti.images.oci.web import Transient

Serve = Callable[[Respond], Server]
NO_WAIT = Retry(attempts=3, first_delay_s=0)


@pytest.fixture
def made() -> MadeImage:
    return make_image([archive([file("a", b"content")])])


@pytest.fixture
def fake(made: MadeImage) -> FakeRegistry:
    fake = FakeRegistry()
    fake.add(made, "v1")
    return fake


def ask(server: Server, credentials: Credentials | None = None, name: str = "team/app:v1") -> Registry:
    return Registry(parse_reference(f"{server.host}/{name}"), credentials, insecure=False, retry=NO_WAIT)


def test_a_manifest_is_found_by_tag_and_by_digest(fake: FakeRegistry, made: MadeImage, serve: Serve) -> None:
    server = serve(fake)
    registry = ask(server)
    for wanted in ("v1", made.manifest.digest):
        assert registry.manifest(wanted) == (made.manifest.data, made.manifest.digest)
    assert server.paths() == ["/v2/team/app/manifests/v1", f"/v2/team/app/manifests/{made.manifest.digest}"]
    accepted = server.seen[0].headers["accept"]
    assert "oci.image.index.v1+json" in accepted
    assert "docker.distribution.manifest.v2+json" in accepted


def test_blobs_are_read_whole_and_in_part(fake: FakeRegistry, made: MadeImage, serve: Serve) -> None:
    registry = ask(serve(fake))
    config = Descriptor(made.config.digest, len(made.config.data))
    assert registry.document(config, "the configuration") == made.config.data
    with registry.open_blob(made.layers[0].digest, 10) as answer:
        assert (answer.status, answer.read_all(1 << 20)) == (206, made.layers[0].data[10:])


@pytest.mark.parametrize("wanted", ["v1", "digest"])
def test_a_manifest_that_is_not_what_its_digest_says_is_found_out(
    fake: FakeRegistry, made: MadeImage, serve: Serve, wanted: str
) -> None:
    other = make_image([archive([file("b")])]).manifest
    lie: Respond = lambda request: request.answer(200, other.data, Docker_Content_Digest=made.manifest.digest)  # noqa: E731
    name = "v1" if wanted == "v1" else made.manifest.digest
    fake.overrides[name] = lie
    server = serve(fake)
    with pytest.raises(CorruptData, match="the manifest of") as caught:
        ask(server).manifest(name)
    assert caught.value.code == "digest-mismatch"
    assert len(server.seen) == 1  # lying is no transient failure


def test_a_configuration_that_is_not_what_its_digest_says_is_found_out(
    fake: FakeRegistry, made: MadeImage, serve: Serve
) -> None:
    fake.overrides[made.config.digest] = lambda request: request.answer(200, b"{}")
    with pytest.raises(CorruptData) as caught:
        ask(serve(fake)).document(Descriptor(made.config.digest, 2), "the configuration")
    assert caught.value.code == "digest-mismatch"


def test_a_manifest_beyond_all_measure_is_not_read(fake: FakeRegistry, serve: Serve) -> None:
    fake.overrides["v1"] = lambda request: request.answer(200, b" " * (6 << 20))
    content, digest = ask(serve(fake)).manifest("v1")
    assert (len(content), digest) == ((4 << 20) + 1, "")


@pytest.mark.parametrize(
    ("status", "kind", "code", "asked"),
    [
        (400, Unavailable, "registry-failing", 1),
        (401, InvalidRequest, "registry-denied", 1),
        (403, InvalidRequest, "registry-denied", 1),
        (404, NotFound, "image-not-found", 1),
        (429, Transient, "registry-rate-limit", 3),
        (500, Transient, "registry-failing", 3),
        (503, Transient, "registry-failing", 3),
        (204, Unavailable, "registry-failing", 1),
    ],
)
def test_what_the_registry_refuses_is_told_and_only_the_rest_tried_again(
    serve: Serve, status: int, kind: type[BhattiError], code: str, asked: int
) -> None:
    body = b'{"errors": [{"code": "SOME_CODE", "message": "line\\nbreak \\u001b[31m"}]}'
    server = serve(lambda request: request.answer(status, b"" if status == 204 else body))
    with pytest.raises(kind) as caught:
        ask(server).manifest("v1")
    assert (caught.value.code, len(server.seen)) == (code, asked)
    assert f"the registry answered {status}" in caught.value.message
    assert caught.value.message.isprintable()
    if status != 204:
        assert r"(SOME_CODE: line\nbreak \x1b[31m)" in caught.value.message


def test_an_error_without_a_reason_is_told_without_one(serve: Serve) -> None:
    server = serve(lambda request: request.answer(404, b"<html>"))
    with pytest.raises(NotFound, match=r"answered 404(\n|$)"):
        ask(server).manifest("v1")


def test_a_failure_that_passes_is_not_noticed(fake: FakeRegistry, made: MadeImage, serve: Serve) -> None:
    failures: list[Respond] = [
        lambda request: request.answer(503, Retry_After="0"),
        truncated(made.manifest.data, 10),
    ]

    def respond(request: Request) -> None:
        (failures.pop(0) if failures else fake)(request)

    assert ask(serve(respond)).manifest("v1")[0] == made.manifest.data


def test_the_servers_wish_to_be_left_alone_is_passed_on(serve: Serve) -> None:
    server = serve(lambda request: request.answer(429, Retry_After="17"))
    with pytest.raises(Transient) as caught, ask(server).open_blob("sha256:" + "0" * 64, 0):
        pass
    assert caught.value.retry_after_s == 17


def locked(inner: Respond, challenge: str, wanted: str) -> Respond:
    def respond(request: Request) -> None:
        if request.path.startswith("/token"):
            request.answer(200, b'{"token": "T"}')
        elif request.headers.get("Authorization") == wanted:
            inner(request)
        else:
            request.answer(401, WWW_Authenticate=challenge.replace("HOST", request.headers["Host"]))

    return respond


def test_passwords_and_tokens_open_a_locked_registry(fake: FakeRegistry, made: MadeImage, serve: Serve) -> None:
    alice = Credentials("alice", "secret")
    server = serve(locked(fake, 'Basic realm="x"', alice.basic()))
    assert ask(server, alice).manifest("v1")[0] == made.manifest.data
    assert len(server.seen) == 2
    bearer = 'Bearer realm="http://HOST/token",service="x"'
    registry = ask(serve(locked(fake, bearer, "Bearer T")))
    assert registry.manifest("v1")[0] == made.manifest.data
    with registry.open_blob(made.layers[0].digest, 0) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("credentials", [None, Credentials("alice", "wrong")])
def test_a_wrong_password_is_sent_once(fake: FakeRegistry, serve: Serve, credentials: Credentials | None) -> None:
    server = serve(locked(fake, 'Basic realm="x"', "Basic never"))
    with pytest.raises(InvalidRequest, match="answered 401") as caught:
        ask(server, credentials).manifest("v1")
    assert caught.value.code == "registry-denied"
    assert len(server.seen) == (2 if credentials else 1)


def test_another_server_that_asks_for_a_password_does_not_get_it(
    fake: FakeRegistry, made: MadeImage, serve: Serve
) -> None:
    other = serve(lambda request: request.answer(401, WWW_Authenticate='Basic realm="give it to me"'))
    fake.overrides[made.layers[0].digest] = lambda request: request.answer(307, Location=f"{other.url}/blob")
    with (
        pytest.raises(InvalidRequest),
        ask(serve(fake), Credentials("alice", "secret")).open_blob(made.layers[0].digest, 0),
    ):
        pass
    assert [seen.headers.get("authorization") for seen in other.seen] == [None]


def test_blobs_may_be_elsewhere(fake: FakeRegistry, made: MadeImage, serve: Serve) -> None:
    other = serve(lambda request: fake.send_blob(request, made.layers[0].data))
    fake.overrides[made.layers[0].digest] = lambda request: request.answer(307, Location=f"{other.url}/blob?signed")
    with ask(serve(fake)).open_blob(made.layers[0].digest, 3) as answer:
        assert answer.read_all(1 << 20) == made.layers[0].data[3:]


@pytest.mark.parametrize(("name", "insecure"), [("http://registry.example/app", False), ("registry.example/app", True)])
def test_plain_http_is_for_this_machine_or_by_wish(name: str, insecure: bool) -> None:
    reference = parse_reference(name)
    if insecure:
        assert Registry(reference, None, insecure=True)._base == "http://registry.example/v2/app"
        return
    with pytest.raises(InvalidRequest) as caught:
        Registry(reference, None, insecure=False)
    assert caught.value.code == "insecure-registry"


def test_tls_is_spoken_to_everybody_else_and_to_this_machine_by_wish(
    fake: FakeRegistry, made: MadeImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Registry(parse_reference("alpine"), None, insecure=False)._base.startswith("https://registry-1.docker.io/")
    cert, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    with serving(fake, tls_context(cert, key)) as server:
        registry = Registry(parse_reference(f"{server.url}/app:v1"), None, insecure=False, retry=NO_WAIT)
        assert registry.manifest("v1")[0] == made.manifest.data
