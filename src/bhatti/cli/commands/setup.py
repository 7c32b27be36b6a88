"""`bhatti setup`: remember where a daemon is, and the key to it."""

import os
import sys

import click

from bhatti import paths
from bhatti.cli.session import json_option, print_json
from bhatti.errors import InvalidRequest
from bhatti.operations import table
from bhatti.sdk import config, endpoint
from bhatti.sdk.client import Client


@click.command()
@click.option("--url", metavar="URL", help="Where the daemon is: http://host:port.")
@click.option("--key", metavar="KEY", help="The key that its administrator gave you; `-` reads it from standard input.")
@json_option
def setup(url: str | None, key: str | None, as_json: bool) -> None:
    """Remember the daemon of another machine, and the key to it, for all commands to come.

    The daemon is asked whether the key is right; only then is it written down, in a file that nobody else can read.
    Without --url, BHATTI_URL is taken, or a person is asked for it; so with --key and BHATTI_API_KEY, so that the key
    need not be in the shell's history.

    Example: bhatti setup --url http://box.example:8080
    """
    url = url or _asked("BHATTI_URL", "--url URL", "Where is the daemon (http://host:port)")
    found = endpoint.parsed(url, sys.stdin.readline().strip() if key == "-" else key or _key())
    with Client(found, timeout_s=30) as caller:
        me = caller.call(table.ME)
    path = paths.client_config_path()
    config.write(path, config.ClientConfig(url=url, api_key=found.key))
    if as_json:
        print_json(me)
    else:
        click.echo(f"{me.name} at {found}, written to {path}")


def _key() -> str:
    return _asked("BHATTI_API_KEY", "--key KEY, or --key - to read it from standard input", "Key", hidden=True)


def _asked(variable: str, option: str, question: str, *, hidden: bool = False) -> str:
    """Return what the environment says, else what a person answers; raises `InvalidRequest` if there is nobody."""
    if found := os.environ.get(variable):
        return found
    if not sys.stdin.isatty():
        raise InvalidRequest(f"neither an option nor {variable} says: {question}", hint=option, code="usage")
    answer: str = click.prompt(question, hide_input=hidden, err=True)
    return answer.strip()


COMMANDS = {"setup": setup}
