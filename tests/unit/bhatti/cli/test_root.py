import json
import re
import subprocess
import sys

import pytest
from tests.daemons import Daemon, error_of
from tests.unit.bhatti.cli.conftest import Bhatti, Remote

from bhatti.cli.root import COMMANDS


def test_help_lists_every_command_without_importing_one() -> None:
    code = (
        "import sys\n"
        "from bhatti.cli.main import run\n"
        "run(['--help'])\n"
        "assert not [name for name in sys.modules if name.startswith('bhatti.cli.commands.')], sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, (_, summary) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}", done.stdout, re.MULTILINE)
    assert "Exit codes" in done.stdout


def test_an_unknown_command_is_an_error(bhatti: Bhatti) -> None:
    done = bhatti("dance")
    assert (done.code, done.out) == (2, "")
    assert "No such command 'dance'" in done.err


@pytest.mark.parametrize("arguments", [["ls"], ["inspect", "one"], ["secret", "ls"], ["exec", "one", "--", "true"]])
def test_json_may_be_asked_for_before_the_command(bhatti: Bhatti, arguments: list[str]) -> None:
    assert bhatti("--json", *arguments).json() is not None
    assert json.loads(bhatti("--json", arguments[0], "--no-such-option").err)["code"] == "usage"


def test_other_words_mean_the_same_commands(bhatti: Bhatti) -> None:
    assert bhatti("list", "-q").out == bhatti("ls", "-q").out
    assert bhatti("info", "one", "--json").json()["name"] == "one"
    assert bhatti("destroy", "nobody").code == 4
    assert bhatti("secret", "list", "--json").json() == []
    assert bhatti("rotate-key").code == 2, "what is a word of a group is none of ours"


def test_how_long_it_took_is_told_of_what_works_and_of_what_fails(bhatti: Bhatti) -> None:
    for arguments in (["ls"], ["inspect", "nobody"]):
        assert re.search(r"^took \d+\.\d{3} s$", bhatti("--timing", *arguments).err, re.MULTILINE)


def test_another_word_for_a_command_is_answered_with_ours(bhatti: Bhatti) -> None:
    assert bhatti("lisst").err.endswith("hint: did you mean `bhatti ls`? `bhatti --help` shows all there are\n")
    assert bhatti("volume", "creat").err == (
        "bhatti: No such command 'creat'.\n"
        "hint: did you mean `bhatti volume create`? `bhatti volume --help` shows all there are\n"
    )


def test_help_is_a_word_too(bhatti: Bhatti) -> None:
    assert bhatti("help").out == bhatti("--help").out
    assert bhatti("help", "volume", "create").out == bhatti("volume", "create", "--help").out
    assert bhatti("help", "dance").code == 2


def test_the_version_is_told(bhatti: Bhatti) -> None:
    assert re.fullmatch(r"bhatti \d+\.\d+\.\d+\n", bhatti("--version").out)


def test_the_daemon_and_the_key_can_be_given_before_the_command(
    bhatti: Bhatti, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BHATTI_URL", "unix:///nowhere")
    monkeypatch.setenv("BHATTI_API_KEY", "bht_of_somebody_else")
    assert bhatti("--url", remote.url, "--key", remote.key, "user", "me", "--json").json()["name"] == remote.name


def test_what_is_given_before_the_command_wins_whatever_the_command(served: Daemon) -> None:
    env = {"BHATTI_URL": "unix:///nowhere"}
    done = served.bhatti("--url", str(served.endpoint), "exec", "one", "--", "sh", "-c", "exit 9", env=env)
    assert (done.returncode, done.stderr) == (9, b"")
    assert error_of(served.bhatti("--url", "box", "ls", "--json")) == (2, "bad-url")
    assert error_of(served.bhatti("ls", "--json", env=env)) == (69, "daemon-not-running")
