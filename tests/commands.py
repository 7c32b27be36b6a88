"""All commands there are, as a person finds them: `bhatti --help`, and the help of each."""

import re
from collections.abc import Iterator

import click

from bhatti.cli.root import COMMANDS, cli


def every_command() -> dict[str, click.Command]:
    """Every command and group by its words: `volume create`."""
    found: dict[str, click.Command] = {}
    for name in COMMANDS:
        outer = cli.get_command(click.Context(cli), name)
        assert outer is not None
        found |= dict(_below(name, outer))
    return found


def _below(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _below(f"{words} {name}", inner)


def examples(command: click.Command) -> list[str]:
    """The command lines that its help shows: what follows `Example:`, up to an empty line."""
    found = re.search(r"Examples?:\s*\n?(.+?)(?:\n\s*\n|\Z)", command.help or "", re.DOTALL)
    lines = [] if found is None else [line.strip() for line in found[1].splitlines()]
    return [line for line in lines if line and line != "\b"]
