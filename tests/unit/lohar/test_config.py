import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lohar.config import AgentConfig, ConfigError, InjectedFile, Volume, checked_dns, checked_files, parse


def document(**members: object) -> bytes:
    return json.dumps(members).encode()


def test_a_complete_document_becomes_the_agents_configuration() -> None:
    config = parse(
        document(
            sandbox_id="abc",
            hostname="box",
            token="secret",
            user="root",
            env={"A": "1", "EMPTY": ""},
            files={"/etc/motd": {"content": base64.b64encode(b"hello\0").decode(), "mode": "0600"}},
            volumes=[{"device": "/dev/vde", "mount": "/data", "fs": "ext4", "read_only": True}],
            dns=["1.1.1.1", "8.8.8.8"],
            init="echo hi",
            generation=3,
        )
    )
    assert config == AgentConfig(
        sandbox_id="abc",
        hostname="box",
        token="secret",
        user="root",
        env={"A": "1", "EMPTY": ""},
        files=(InjectedFile(path="/etc/motd", content=b"hello\0", mode=0o600),),
        volumes=(Volume(device="/dev/vde", mount="/data", read_only=True),),
        dns=("1.1.1.1", "8.8.8.8"),
        init="echo hi",
        generation=3,
        pid1=True,
    )


def test_an_empty_document_gives_the_defaults() -> None:
    config = parse(b"{}")
    assert (config.hostname, config.user, config.token, config.init) == ("bhatti", "lohar", None, None)
    assert config.pid1


def test_null_and_unknown_members_are_ignored() -> None:
    config = parse(document(token=None, env=None, files=None, volumes=None, dns=None, init=None, color="blue"))
    assert config == parse(b"{}")


def test_a_file_without_mode_is_readable_by_all() -> None:
    config = parse(document(files={"/a": {"content": ""}, "/b": {"content": "", "mode": ""}}))
    assert [file.mode for file in config.files] == [0o644, 0o644]


def test_only_permission_bits_of_a_mode_are_kept() -> None:
    assert parse(document(files={"/a": {"content": "", "mode": "104755"}})).files[0].mode == 0o4755


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        (b"", "not JSON"),
        (b"[]", "an object"),
        (b"\xff", "not JSON"),
        (document(token=7), "token"),
        (document(hostname="h" * 65), "hostname"),
        (document(env={"A": 1}), "env"),
        (document(env={"A=B": "1"}), "env"),
        (document(env={"A": "\0"}), "env"),
        (document(files={"etc/motd": {"content": ""}}), "absolute"),
        (document(files={"/etc/": {"content": ""}}), "absolute"),
        (document(files={"/a": {"content": "not base64!"}}), "files"),
        (document(files={"/a": {"content": "", "mode": "rw"}}), "octal"),
        (document(files={"/a": "text"}), "files"),
        (document(volumes=[{"device": "vde", "mount": "/data"}]), "volumes"),
        (document(volumes=[{"device": "/dev/vde", "mount": "data"}]), "volumes"),
        (document(volumes=[{"mount": "/data"}]), "volumes"),
        (document(dns=["1.1.1.1\nsearch evil"]), "dns"),
        (document(dns=[""]), "dns"),
        (document(generation=-1), "generation"),
        (document(generation=True), "generation"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_name(text: bytes, culprit: str) -> None:
    with pytest.raises(ConfigError, match=culprit):
        parse(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_a_config_error(text: bytes) -> None:
    with contextlib.suppress(ConfigError):
        assert parse(text).pid1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["token", "env", "files", "volumes", "dns", "init", "generation"]), json_values))
def test_any_object_is_a_configuration_or_a_config_error(members: dict[str, object]) -> None:
    with contextlib.suppress(ConfigError):
        assert parse(document(**members)).pid1


def test_files_and_name_servers_of_an_identity_pass_the_same_checks() -> None:
    class Content:
        content = b"x"
        mode = "0600"

    assert checked_files({"/a": Content()}) == (InjectedFile(path="/a", content=b"x", mode=0o600),)
    assert checked_dns(("9.9.9.9",)) == ("9.9.9.9",)
    with pytest.raises(ConfigError, match="absolute"):
        checked_files({"../a": Content()})
