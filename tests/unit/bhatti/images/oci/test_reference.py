import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.errors import InvalidRequest
from bhatti.images.oci.reference import Reference, is_loopback, parse_reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full", "host", "name"),
    [
        ("alpine", "docker.io/library/alpine:latest", "registry-1.docker.io", "alpine"),
        ("alpine:3.19", "docker.io/library/alpine:3.19", "registry-1.docker.io", "alpine-3.19"),
        ("team/app", "docker.io/team/app:latest", "registry-1.docker.io", "app"),
        ("index.docker.io/library/alpine", "docker.io/library/alpine:latest", "registry-1.docker.io", "alpine"),
        ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1", "ghcr.io", "c-v1"),
        ("localhost/app", "localhost/app:latest", "localhost", "app"),
        ("localhost:5000/app:x", "localhost:5000/app:x", "localhost:5000", "app-x"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000", "app"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}", "registry-1.docker.io", "alpine"),
        (f"r.example/a:1@{DIGEST}", f"r.example/a:1@{DIGEST}", "r.example", "a-1"),
    ],
)
def test_names_mean_what_they_mean_to_docker(text: str, full: str, host: str, name: str) -> None:
    reference = parse_reference(text)
    assert (str(reference), reference.host, reference.suggested_name) == (full, host, name)


def test_a_digest_is_asked_for_rather_than_the_tag_beside_it() -> None:
    assert parse_reference(f"a:1@{DIGEST}").wanted == DIGEST
    assert parse_reference("a:1").wanted == "1"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_scheme_may_be_given(scheme: str) -> None:
    reference = parse_reference(f"{scheme}://host/app:1")
    assert (reference.scheme, str(reference)) == (scheme, "host/app:1")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "''"),
        ("Alpine", "lower case"),
        ("a b", "characters that none may have"),
        ("../etc/passwd", "host name"),
        ("a/../b", "characters that none may have"),
        ("a//b", "characters that none may have"),
        ("host.example/", "repository"),
        ("https://app", "host name"),
        ("-x.y/app", "host name"),
        ("a:" + "t" * 129, "not a tag"),
        ("a:", "not a tag"),
        ("a:.x", "not a tag"),
        ("a@sha256:12", "digest"),
        ("a@", "digest"),
        ("a@" + DIGEST + "@" + DIGEST, "digest"),
        ("x" * 600, "too long"),
        ("host.example/app\r\nX: y", "not a tag"),
    ],
)
def test_other_names_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        parse_reference(text)
    assert caught.value.code == "bad-reference"


@given(st.text(max_size=80) | st.from_regex(r"[a-z./:@-]{1,40}", fullmatch=True))
def test_any_text_is_a_name_that_can_be_read_again_or_is_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidRequest:
        return
    again = parse_reference(str(reference))
    assert again == Reference(reference.registry, reference.repository, reference.tag, reference.digest, scheme="")
    assert str(reference).isprintable()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.9.9.9:5000", "[::1]", "[::1]:5000"])
def test_this_machine_is_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example", "128.0.0.1", "127.0.0.1.example", "[::2]:1", "example:127", ""])
def test_other_machines_are_not(host: str) -> None:
    assert not is_loopback(host)
