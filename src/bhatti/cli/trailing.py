"""Commands that end in somebody else's command line: `exec [options] NAME [options] [--] CMD…`."""

from typing import ClassVar

import click


class TrailingCommand(click.Command):
    """Options may stand before and behind the first `leading` words; what follows those is the command, untouched."""

    leading: ClassVar[int] = 0

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Bring the options to the front, so that click does not look for them in the command."""
        takes_value = {
            name
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option) and not parameter.is_flag
            for name in parameter.opts
        }
        options, words, command = split(args, self.leading, takes_value)
        return super().parse_args(ctx, [*options, "--", *words, *command])


class NamedCommand(TrailingCommand):
    """A command of which the first word is the name of a sandbox."""

    leading = 1


def split(args: list[str], leading: int, takes_value: set[str]) -> tuple[list[str], list[str], list[str]]:
    """Return options (with their values), the `leading` words, and the rest."""
    options: list[str] = []
    words: list[str] = []
    at = 0
    while at < len(args):
        word = args[at]
        if word == "--":
            at += 1
            if len(words) == leading:
                break
        elif word.startswith("-") and len(word) > 1:
            end = at + 2 if word in takes_value else at + 1
            options += args[at:end]
            at = end
        elif len(words) == leading:
            break
        else:
            words.append(word)
            at += 1
    return options, words, args[at:]
