"""`bhatti secret set`, `ls`, `inspect`, `rm` and `rotate-key`."""

import sys

import click

from bhatti.cli import output
from bhatti.cli.aliases import Aliased
from bhatti.cli.answers import answer, listed, removed
from bhatti.cli.session import client, json_option, print_json, quiet_option
from bhatti.errors import InvalidRequest
from bhatti.operations import table, types


@click.group(cls=Aliased)
def secret() -> None:
    """Keep secrets encrypted, for the sandboxes that ask for them (`bhatti create --secret`).

    Example: echo "$TOKEN" | bhatti secret set GITHUB_TOKEN
    """


@secret.command(name="set")
@click.argument("name")
@click.option(
    "--from-file", "path", type=click.Path(), metavar="PATH", help="Read the value from a file, every byte of it."
)
@json_option
@quiet_option
def set_(name: str, path: str | None, as_json: bool, quiet: bool) -> None:
    """Keep a secret, or give it another value.

    The value is read from standard input, without the newline at its end; a terminal is asked for it and does not show
    it. It is never an argument: arguments can be read by everybody on the machine. Sandboxes that are there keep the
    value that they have.

    Example: bhatti secret set deploy-key --from-file ~/.ssh/deploy
    """
    kept = client().call(table.SECRET_SET, types.SecretSet(name=name, value=_value(name, path)))
    answer(kept, kept.name if quiet else f"{kept.name}\tset", as_json=as_json)


def _value(name: str, path: str | None) -> str:
    if path is None and sys.stdin.isatty():
        asked: str = click.prompt(f"Value of {name}", hide_input=True, err=True)
        return asked
    try:
        if path is None:
            raw = sys.stdin.buffer.read()
            raw = raw.removesuffix(b"\n").removesuffix(b"\r")
        else:
            from pathlib import Path  # nothing else needs it

            raw = Path(path).expanduser().read_bytes()
    except OSError as err:
        raise InvalidRequest(
            f"{path or 'standard input'} cannot be read: {err.strerror}",
            hint="the file is one of this machine, and you have to be allowed to read it",
            code="bad-file",
        ) from err
    if not raw:
        raise InvalidRequest("the value is empty", hint="write it to standard input, or give --from-file", code="empty")
    try:
        return raw.decode()
    except UnicodeDecodeError as err:
        raise InvalidRequest("the value is not UTF-8", hint="encode it, as base64 for one", code="bad-secret") from err


@secret.command()
@json_option
@quiet_option
def ls(as_json: bool, quiet: bool) -> None:
    """List your secrets. Their values cannot be shown.

    Example: bhatti secret ls
    """
    found = client().call(table.SECRET_LIST)
    listed(found, ("NAME", "SET", "AGE"), _row, as_json=as_json, names=(lambda one: one.name) if quiet else None)


def _row(found: types.Secret) -> tuple[str, ...]:
    return found.name, f"{output.age(found.updated_at)} ago", output.age(found.created_at)


@secret.command()
@click.argument("name")
@json_option
def inspect(name: str, as_json: bool) -> None:
    """Show when a secret was made, and when it was last set.

    Example: bhatti secret inspect GITHUB_TOKEN
    """
    found = client().call(table.SECRET_GET, name=name)
    if as_json:
        print_json(found)
        return
    moments = (("created", found.created_at), ("set", found.updated_at))
    output.pairs([("name", found.name), *((what, f"{when:%Y-%m-%d %H:%M:%S} UTC") for what, when in moments)])


@secret.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-f", "--force", is_flag=True, help="Do not mind secrets that are not there.")
@json_option
@quiet_option
def rm(names: tuple[str, ...], force: bool, as_json: bool, quiet: bool) -> None:
    """Forget secrets. Sandboxes that have them keep them.

    Example: bhatti secret rm GITHUB_TOKEN
    """
    caller = client()

    def remove(name: str) -> str:
        return caller.call(table.SECRET_REMOVE, name=name).status

    removed(names, remove, "deleted", force=force, as_json=as_json, quiet=quiet)


@secret.command(name="rotate-key")
@json_option
@quiet_option
def rotate_key(as_json: bool, quiet: bool) -> None:
    """Encrypt the secrets of all users with a new key (for the administrator).

    The old key is gone then: keep a copy of the key file with each backup of the store that was made before.

    Example: bhatti secret rotate-key
    """
    done = client().call(table.SECRET_ROTATE_KEY)
    answer(done, f"{done.secrets} encrypted anew", as_json=as_json, quiet=quiet)


COMMANDS = {"secret": secret}
