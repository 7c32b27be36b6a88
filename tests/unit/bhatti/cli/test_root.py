import re
import shlex
import subprocess
import sys

import click
import pytest
from tests.unit.bhatti.cli.conftest import Bhatti

from bhatti.cli.root import COMMANDS, cli


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert isinstance(found, click.Command)
    return found


def all_commands() -> list[tuple[str, click.Command]]:
    found = []
    for name in COMMANDS:
        outer = command(name)
        found.append((name, outer))
        if isinstance(outer, click.Group):
            found += [(f"{name} {inner}", outer.commands[inner]) for inner in outer.commands]
    return found


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


def test_the_version_is_told(bhatti: Bhatti) -> None:
    assert re.fullmatch(r"bhatti \d+\.\d+\.\d+\n", bhatti("--version").out)


@pytest.mark.parametrize("name", [name for name, _ in all_commands()])
def test_every_help_has_an_example_that_the_command_understands(bhatti: Bhatti, name: str) -> None:
    done = bhatti(*name.split(), "--help")
    assert done.code == 0
    example = re.search(r"Example: (?:echo \S+ \| )?bhatti (.+?)(?:\n\n|\Z)", done.out, re.DOTALL)
    assert example is not None, done.out
    words = shlex.split(example[1].partition(" < ")[0])
    assert " ".join(words).startswith(name), words
    leaf = dict(all_commands())[" ".join(words[:2])] if words[0] in ("file", "image") else command(words[0])
    rest = words[2:] if words[0] in ("file", "image") else words[1:]
    if not isinstance(leaf, click.Group):
        leaf.make_context(words[0], rest)  # raises for what the command does not take


def test_every_command_answers_in_json_but_those_that_have_no_answer() -> None:
    without = {
        name
        for name, found in all_commands()
        if not isinstance(found, click.Group) and not any(p.name == "as_json" for p in found.params)
    }
    assert without == {"shell", "serve"}
