import io
import json
from pathlib import Path

import pytest
from tests.unit.bhatti.cli.conftest import Bhatti, Remote


@pytest.fixture
def home(tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of somebody who has no daemon on this machine."""
    monkeypatch.delenv("BHATTI_STATE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_key_that_is_right_is_written_down_and_used(bhatti: Bhatti, remote: Remote, home: Path) -> None:
    done = bhatti("setup", "--url", remote.url, "--key", remote.key)
    path = home / ".config" / "bhatti" / "client.toml"
    assert (done.code, done.out) == (0, f"{remote.name} at {remote.url}, written to {path}\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert bhatti("user", "me", "--json").json()["name"] == remote.name
    assert bhatti("ls", "--json").json() == []


def test_a_key_that_is_wrong_changes_nothing(bhatti: Bhatti, remote: Remote, home: Path) -> None:
    bhatti("setup", "--url", remote.url, "--key", remote.key)
    done = bhatti("setup", "--url", remote.url, "--key", "bht_" + "x" * 43, "--json")
    assert (done.code, json.loads(done.err)["code"]) == (77, "invalid-key")
    assert bhatti("user", "me").code == 0
    assert remote.key not in done.err


def test_the_key_need_not_be_on_the_command_line(
    bhatti: Bhatti, remote: Remote, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{remote.key}\n"))
    assert bhatti("setup", "--url", remote.url, "--key", "-", "--json").json()["name"] == remote.name
    assert bhatti("setup", "--url", remote.url).code == 2, "nobody is there to be asked"
    monkeypatch.setenv("BHATTI_API_KEY", remote.key)
    assert bhatti("setup", "--url", remote.url).code == 0


@pytest.mark.parametrize(
    ("url", "key", "code"),
    [
        ("box", "bht_x", "bad-url"),
        ("http://127.0.0.1:1", "bht_x", "daemon-not-running"),
        ("http://127.0.0.1:1", "two words", "bad-key"),
    ],
)
def test_what_cannot_be_is_not_written_down(bhatti: Bhatti, home: Path, url: str, key: str, code: str) -> None:
    done = bhatti("setup", "--url", url, "--key", key, "--json")
    assert done.code != 0
    assert json.loads(done.err)["code"] == code
    assert not (home / ".config").exists()
