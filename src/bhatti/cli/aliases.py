"""Other words for commands: what fingers know from other tools, and from the first bhatti."""

import click

ALIASES = {
    "list": "ls",
    "info": "inspect",
    "destroy": "rm",
    "delete": "rm",
    "remove": "rm",
    "sh": "shell",
    "rotate-key": "rotate",
}
"""Words, and the command that is meant where no command is called so. They are in no help, but in docs/cli.md."""

LONGEST = 1000
"""Characters of a first sentence; click would cut it at the width of the terminal, in the middle of its meaning."""


class Aliased(click.Group):
    """A group whose commands are found by these words too. Its help says of each all of its first sentence."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, or the one that the word means."""
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, ALIASES.get(cmd_name, ""))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, in lines as many as they need."""
        commands = ((name, self.commands[name]) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(LONGEST)) for name, command in commands])
