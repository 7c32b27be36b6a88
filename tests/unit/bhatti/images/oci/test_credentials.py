import base64
import json
from pathlib import Path

import pytest

from bhatti.errors import InvalidRequest, MissingDependency
from bhatti.images.oci.credentials import Credentials, find_credentials

ALICE = base64.b64encode(b"alice:pass:word").decode()


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "bin").mkdir()
    return {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}


def configure(env: dict[str, str], document: object) -> None:
    Path(env["DOCKER_CONFIG"], "config.json").write_text(json.dumps(document))


def helper(env: dict[str, str], name: str, script: str) -> None:
    path = Path(env["DOCKER_CONFIG"], "bin", f"docker-credential-{name}")
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_a_file_there_are_none(env: dict[str, str]) -> None:
    assert find_credentials("docker.io", env) is None
    assert find_credentials("docker.io", {"HOME": "/nonexistent"}) is None


def test_the_file_is_also_looked_for_at_home(tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {"r": {"auth": ALICE}}}))
    assert find_credentials("r", {"HOME": str(tmp_path)}) == Credentials("alice", "pass:word")


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("registry.example:5000", "registry.example:5000"),
        ("https://registry.example/v2/", "registry.example"),
        ("http://registry.example", "registry.example"),
    ],
)
def test_keys_of_all_ages_name_a_host(env: dict[str, str], key: str, registry: str) -> None:
    configure(env, {"auths": {"other.example": {"auth": "x"}, key: {"auth": ALICE}}, "currentContext": "x"})
    assert find_credentials(registry, env) == Credentials("alice", "pass:word")


def test_other_registries_get_nothing(env: dict[str, str]) -> None:
    configure(env, {"auths": {"registry.example": {"auth": ALICE}, "empty": {}}})
    assert find_credentials("registry.example:5000", env) is None
    assert find_credentials("docker.io", env) is None
    assert find_credentials("empty", env) is None


def test_user_password_and_token_may_stand_in_the_open(env: dict[str, str]) -> None:
    configure(env, {"auths": {"a": {"username": "u", "password": "p"}, "b": {"identitytoken": "t"}}})
    assert find_credentials("a", env) == Credentials("u", "p")
    assert find_credentials("b", env) == Credentials(identity_token="t")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"auths": 5}', b"\xff", b'{"auths": {"r": {"auth": "!!!"}}}'])
def test_a_file_that_makes_no_sense_is_named(env: dict[str, str], content: bytes) -> None:
    path = Path(env["DOCKER_CONFIG"], "config.json")
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"config\.json cannot be used") as caught:
        find_credentials("r", env)
    assert caught.value.code == "bad-docker-config"


def test_a_helper_is_asked_with_the_name_of_the_server(env: dict[str, str]) -> None:
    helper(env, "ring", '[ "$1" = get ] && read -r host; echo "{\\"Username\\": \\"u\\", \\"Secret\\": \\"$host\\"}"')
    configure(env, {"credHelpers": {"registry.example": "ring"}, "auths": {"r": {"auth": ALICE}}})
    assert find_credentials("registry.example", env) == Credentials("u", "registry.example")
    assert find_credentials("r", env) == Credentials("alice", "pass:word")
    configure(env, {"credsStore": "ring"})
    assert find_credentials("docker.io", env) == Credentials("u", "https://index.docker.io/v1/")


def test_a_helper_may_give_a_token_or_know_nothing(env: dict[str, str]) -> None:
    configure(env, {"credsStore": "ring"})
    helper(env, "ring", 'echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"t\\"}"')
    assert find_credentials("r", env) == Credentials(identity_token="t")
    helper(env, "ring", "echo credentials not found in native keychain; exit 1")
    assert find_credentials("r", env) is None


def test_a_helper_that_is_missing_or_mad_is_named(env: dict[str, str]) -> None:
    configure(env, {"credsStore": "ring"})
    with pytest.raises(MissingDependency, match="docker-credential-ring"):
        find_credentials("r", env)
    helper(env, "ring", "echo what")
    with pytest.raises(InvalidRequest, match="makes no sense"):
        find_credentials("r", env)
    configure(env, {"credsStore": "../../bin/sh"})
    with pytest.raises(InvalidRequest, match="no name of a credential helper"):
        find_credentials("r", env)


def test_secrets_are_never_shown() -> None:
    shown = repr(Credentials("alice", "secret", "secret"))
    assert "alice" in shown
    assert "secret" not in shown
    assert Credentials("a", "b:ü").basic() == "Basic " + base64.b64encode("a:b:ü".encode()).decode()
