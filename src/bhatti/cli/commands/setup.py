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
@click.option("--url", required=True, metavar="URL", help="Where the daemon is: http://host:port.")
@click.option("--key", metavar="KEY", help="The key that its administrator gave you; `-` reads it from standard input.")
@json_option
def setup(url: str, key: str | None, as_json: bool) -> None:
    """Remember the daemon of another machine, and the key to it, for all commands to come.

    The daemon is asked whether the key is right; only then is it written down, in a file that nobody else can read.
    Without --key, BHATTI_API_KEY is taken, or the key is asked for, so that it need not be in the shell's history.

    Example: bhatti setup --url http://box.example:8080
    """
    found = endpoint.parsed(url, _key(key))
    with Client(found, timeout_s=30) as caller:
        me = caller.call(table.ME)
    path = paths.client_config_path()
    config.write(path, config.ClientConfig(url=url, api_key=found.key))
    if as_json:
        print_json(me)
    else:
        click.echo(f"{me.name} at {found}, written to {path}")


def _key(given: str | None) -> str:
    if given == "-":
        return sys.stdin.readline().strip()
    if given is not None:
        return given
    if found := os.environ.get("BHATTI_API_KEY"):
        return found
    if not sys.stdin.isatty():
        raise InvalidRequest("no key is given", hint="--key KEY, or --key - to read it from standard input")
    key: str = click.prompt("key", hide_input=True)
    return key.strip()


COMMANDS = {"setup": setup}
