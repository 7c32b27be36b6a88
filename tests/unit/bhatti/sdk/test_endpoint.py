from pathlib import Path

import pytest

from bhatti.errors import InvalidRequest
from bhatti.sdk.config import ClientConfig, write
from bhatti.sdk.endpoint import Endpoint, escaped, find


def test_without_anything_it_is_the_users_own_socket() -> None:
    found = find({"BHATTI_STATE_DIR": "/srv/b"})
    assert (found.path, str(found), found.authority) == (
        "/srv/b/run/bhatti.sock",
        "unix:///srv/b/run/bhatti.sock",
        "bhatti",
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("unix:///run/x.sock", "unix:///run/x.sock"),
        ("http://box:9000", "http://box:9000"),
        ("http://box:9000/", "http://box:9000"),
        ("http://box", "http://box:8080"),
        ("http://[::1]:9000", "http://::1:9000"),
    ],
)
def test_the_url_says_where(url: str, expected: str) -> None:
    assert str(find({"BHATTI_URL": url})) == expected
    assert str(find({"BHATTI_URL": "http://other"}, url)) == expected


def test_the_authority_of_a_host_is_its_name_and_port() -> None:
    assert Endpoint(host="box", port=80).authority == "box:80"


@pytest.mark.parametrize(
    "url", ["box:9000", "https://box", "unix://relative", "http://", "http://box:port", "ftp://x:1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        find({}, url)
    assert caught.value.code == "bad-url"


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("agent-1_x", "agent-1_x"),
        ("a/b", "a%2Fb"),
        ("a b?", "a%20b%3F"),
        ("..", "%2E%2E"),
        ("a.b", "a.b"),
        ("é", "%C3%A9"),
    ],
)
def test_a_name_stays_one_part_of_a_path(ref: str, expected: str) -> None:
    assert escaped(ref) == expected


def remembered(home: Path, url: str, key: str) -> dict[str, str]:
    write(f"{home}/.config/bhatti/client.toml", ClientConfig(url=url, api_key=key))
    return {"HOME": str(home)}


def test_the_file_of_setup_says_where_and_with_which_key(tmp_path: Path) -> None:
    env = remembered(tmp_path, "http://box:9000", "bht_x")
    found = find(env)
    assert (str(found), found.key) == ("http://box:9000", "bht_x")
    assert find({**env, "BHATTI_API_KEY": "bht_y"}).key == "bht_y"
    assert find({**env, "BHATTI_URL": "http://box:9000"}).key == "bht_x"


def test_a_key_is_not_shown_to_another_daemon_than_the_one_it_is_for(tmp_path: Path) -> None:
    env = remembered(tmp_path, "http://box:9000", "bht_x")
    assert find({**env, "BHATTI_URL": "http://other:9000"}).key == ""
    assert find(env, "http://box:9001").key == ""


def test_a_daemon_of_this_machine_that_is_named_goes_before_the_file(tmp_path: Path) -> None:
    env = remembered(tmp_path, "http://box:9000", "bht_x")
    for name in ("BHATTI_STATE_DIR", "BHATTI_RUNTIME_DIR"):
        found = find({**env, name: "/srv/b"})
        assert (found.path.startswith("/srv/b/"), found.key) == (True, "")


@pytest.mark.parametrize("key", ["a b", "a\r\nX-Evil: 1", "a\0"])
def test_what_would_break_out_of_a_header_is_no_key(key: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        find({"BHATTI_URL": "http://box", "BHATTI_API_KEY": key})
    assert caught.value.code == "bad-key"
    assert key not in caught.value.message
