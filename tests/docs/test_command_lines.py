"""Every command line that the pages show is one that the commands take; those of the quickstart and helps are run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.daemons import ROOT

from bhatti.cli.root import cli

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?:console|sh|bash)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def lines(page: Path) -> Iterator[str]:
    """What is typed in the blocks of a page, a command a line."""
    for block in BLOCK.findall(page.read_text()):
        typed = [line for line in block.splitlines() if not re.search(r"^\$ ", block, re.MULTILINE) or line[:2] == "$ "]
        yield from (line.removeprefix("$ ") for line in "\n".join(typed).replace("\\\n", " ").splitlines())


def calls(line: str) -> Iterator[list[str]]:
    """The arguments of each `bhatti` in a line for a shell."""
    lexer = shlex.shlex(line.replace("$(", " ; ").replace("…", "x"), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    call: list[str] | None = None
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            if call is not None:
                yield call
            call = None
        elif call is not None:
            call.append(word)
        elif Path(word).name == "bhatti":
            call = []


FOUND = [
    pytest.param(call, id=f"{page.name}-{' '.join(call)[:40]}")
    for page in PAGES
    for line in lines(page)
    if "bhatti " in line
    for call in calls(line)
]


@pytest.mark.parametrize("call", FOUND)
def test_it_is_taken(call: list[str]) -> None:
    command: click.Command = cli
    context = click.Context(cli, info_name="bhatti")
    _, rest, _ = cli.make_parser(context).parse_args(list(call))
    while isinstance(command, click.Group) and rest:
        name, *rest = rest
        found = command.get_command(context, name)
        assert found is not None, name
        command = found
        context = click.Context(command, info_name=name, parent=context)
    if not isinstance(command, click.Group):
        command.make_context(command.name, rest, parent=context.parent)


def test_the_pages_show_many() -> None:
    assert len(FOUND) > 60
