"""docs/cli.md is what the commands are, and says what exit codes mean."""

import json
import re
import subprocess
import sys

import click
import pytest
from tests.commands import every_command
from tests.daemons import ROOT

from bhatti.cli.aliases import ALIASES
from bhatti.cli.root import EPILOG
from bhatti.errors import CLASSES_BY_CODE

PAGE = (ROOT / "docs" / "cli.md").read_text()
ALL = every_command()
LEAVES = {name: command for name, command in ALL.items() if not isinstance(command, click.Group)}


def has(command: click.Command, name: str) -> bool:
    return any(parameter.name == name for parameter in command.params)


@pytest.mark.parametrize("name", list(ALL))
def test_every_command_is_described(name: str) -> None:
    assert re.search(rf"^#+ bhatti {name}$", PAGE, re.MULTILINE)


def test_every_error_has_the_exit_code_that_the_page_says() -> None:
    rows = re.findall(r"^\| (\d+) \| (?:`([a-z-]+)`)? *\|", PAGE, re.MULTILINE)
    told = {name: int(code) for code, name in rows if name}
    assert {name: kind.exit_code for name, kind in CLASSES_BY_CODE.items()}.items() <= told.items()
    assert len(rows) > len(CLASSES_BY_CODE)


def test_the_help_names_every_exit_code() -> None:
    codes = {kind.exit_code for kind in CLASSES_BY_CODE.values()} - {1}
    assert codes <= {int(number) for number in re.findall(r"\b\d+\b", EPILOG)}


def test_every_command_answers_in_json() -> None:
    assert [name for name, command in LEAVES.items() if not has(command, "as_json")] == []


def test_every_list_can_be_had_as_names_alone() -> None:
    lists = {name: command for name, command in LEAVES.items() if name.split()[-1] in ("ls", "ps", "events", "publish")}
    assert [name for name, command in lists.items() if not has(command, "quiet")] == []
    assert len(lists) >= 14


def test_the_page_names_the_other_words() -> None:
    assert all(f"`{word}` is `{command}`" in PAGE for word, command in ALIASES.items())
    assert set(ALIASES.values()) <= {name.split()[-1] for name in LEAVES}


def test_colour_is_for_terminals_alone() -> None:
    from tests.tmux import bhatti_in_window  # a terminal, which few of these tests need

    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src"), "HOME": "/nonexistent"}
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        with bhatti_in_window(environment | more, "ls", "--no-such-option") as person:
            person.exit_code()
            assert ("\x1b[31m" in person.tmux("capture-pane", "-e", "-p")) == coloured
    command = [sys.executable, "-m", "bhatti", "ls", "--no-such-option"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "\x1b" in done.stderr) == (2, False)
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=False)
    assert json.loads(done.stderr)["code"] == "usage"
