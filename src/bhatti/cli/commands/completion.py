"""`bhatti completion`."""

import click

from bhatti.cli.completion import SHELLS, script
from bhatti.cli.session import json_option, print_json


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print what makes a shell complete our commands, options and names: run it where the shell starts.

    \b
    bash:  echo 'eval "$(bhatti completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(bhatti completion zsh)"' >> ~/.zshrc
    fish:  bhatti completion fish > ~/.config/fish/completions/bhatti.fish

    Example: bhatti completion bash
    """
    text = script(shell)
    if as_json:
        print_json({"shell": shell, "script": text})
    else:
        click.echo(text)


COMMANDS = {"completion": completion}
