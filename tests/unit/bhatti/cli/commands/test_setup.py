import io
import json
import sys
from pathlib import Path

import pytest
from tests.daemons import Daemon
from tests.terminals import screen
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
    assert "--key -" in bhatti("setup", "--url", remote.url).err, "nobody is there to be asked"
    monkeypatch.setenv("BHATTI_API_KEY", remote.key)
    done = bhatti("setup")
    assert (done.code, "hint: --url URL" in done.err) == (2, True)
    monkeypatch.setenv("BHATTI_URL", remote.url)
    assert bhatti("setup").code == 0


def test_a_person_is_asked_and_the_key_is_not_shown(served: Daemon, remote: Remote, tmp_path: Path) -> None:
    env = {name: value for name, value in served.env.items() if not name.startswith("BHATTI_")}
    env["HOME"] = str(tmp_path)
    with screen(sys.executable, "-m", "bhatti", "setup", env=env) as (person, process):
        person.wait_for(b"Where is the daemon")
        person.type(f"{remote.url}\n".encode())
        person.wait_for(b"Key: ")
        person.type(f"{remote.key}\n".encode())
        assert remote.key.encode() not in person.wait_for(b"written to")
        assert process.wait(60) == 0
    assert remote.key in (tmp_path / ".config" / "bhatti" / "client.toml").read_text()


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
