import click
import pytest
from tests.commands import every_command

from bhatti.cli.aliases import ALIASES
from bhatti.cli.root import cli
from bhatti.cli.suggestions import MEANT, MEANT_IN_GROUPS, meant


def hint(*arguments: str) -> str | None:
    """What is said to somebody whose command line click refuses."""
    with pytest.raises(click.UsageError) as caught, cli.make_context("bhatti", list(arguments)) as context:
        cli.invoke(context)
    return meant(caught.value)


@pytest.mark.parametrize(
    ("arguments", "ours"),
    [
        (["lists"], "bhatti ls"),
        (["lst"], "bhatti ls"),
        (["Create"], "bhatti create"),
        (["chekpoint", "ls"], "bhatti checkpoint"),
        (["ssh", "agent-1"], "bhatti shell"),
        (["cp", "a", "b"], "bhatti file cp"),
        (["dellete"], "bhatti rm"),
        (["volume", "lists"], "bhatti volume ls"),
        (["volume", "reszie"], "bhatti volume resize"),
        (["file", "cat"], "bhatti file read"),
        (["secret", "show"], "bhatti secret inspect"),
    ],
)
def test_who_has_another_word_for_it_is_told_ours(arguments: list[str], ours: str) -> None:
    said = hint(*arguments)
    assert said is not None
    assert said.startswith(f"did you mean `{ours}`? `bhatti ")


@pytest.mark.parametrize("arguments", [["xyzzy"], ["volume", "xyzzy"], ["port", "new"], ["ls", "--nonsense"], ["exec"]])
def test_where_nothing_comes_to_mind_nothing_is_said(arguments: list[str]) -> None:
    assert hint(*arguments) is None


@pytest.mark.parametrize("arguments", [["exec", "-it", "one", "sh"], ["run", "--tty", "--", "sh"]])
def test_who_wants_a_terminal_is_told_of_shell(arguments: list[str]) -> None:
    assert "`bhatti shell NAME -- CMD`" in (hint(*arguments) or "")


def test_our_words_are_commands_and_theirs_are_not() -> None:
    commands = every_command()
    assert set(MEANT.values()) <= set(commands)
    assert not set(MEANT) & {*commands, *ALIASES}
    inner = {name.split()[-1] for name in commands if " " in name}
    assert set(MEANT_IN_GROUPS.values()) <= inner
    assert not set(MEANT_IN_GROUPS) & {*inner, *ALIASES}


def test_other_errors_are_left_alone() -> None:
    assert meant(click.ClickException("No such command 'ls'.")) is None
    assert meant(click.UsageError("Missing argument 'NAME'.", click.Context(cli))) is None
