import click
import pytest
from tests.commands import every_command

from bhatti.cli.aliases import ALIASES, Aliased

GROUPS = {name: command for name, command in every_command().items() if isinstance(command, click.Group)}


@click.group(cls=Aliased)
def group() -> None:
    """Hold commands."""


@group.command()
def rm() -> None:
    """Remove."""


@group.command()
def info() -> None:
    """Be called as another's other word."""


def test_a_word_means_a_command_unless_one_is_called_so() -> None:
    context = click.Context(group)
    assert group.get_command(context, "delete") is rm
    assert group.get_command(context, "info") is info
    assert group.get_command(context, "list") is None
    assert group.list_commands(context) == ["info", "rm"]


def test_every_group_knows_them() -> None:
    assert len(GROUPS) > 8
    assert all(isinstance(found, Aliased) for found in GROUPS.values())
    assert not set(ALIASES) & set(ALIASES.values())


@pytest.mark.parametrize("name", list(GROUPS))
def test_the_help_of_a_group_says_all_of_each_first_sentence(name: str) -> None:
    found = GROUPS[name]
    shown = " ".join(found.get_help(click.Context(found, info_name=name, terminal_width=60)).split())
    for inner in found.commands.values():
        sentence = " ".join((inner.help or "").split(". ")[0].split("\n\n")[0].split())
        assert sentence.rstrip(".") in shown
    assert "..." not in shown.replace("[ARGS]...", "")
