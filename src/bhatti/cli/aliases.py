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


class Aliased(click.Group):
    """A group whose commands are found by these words too."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, or the one that the word means."""
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, ALIASES.get(cmd_name, ""))
