import click
from tests.commands import every_command

from bhatti.cli.aliases import ALIASES, Aliased


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
    groups = [command for command in every_command().values() if isinstance(command, click.Group)]
    assert len(groups) > 8
    assert all(isinstance(found, Aliased) for found in groups)
    assert not set(ALIASES) & set(ALIASES.values())
