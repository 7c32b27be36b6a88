"""`bhatti user create`, `ls`, `inspect`, `update`, `rotate`, `rm` and `me`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec
from msgspec import UNSET, UnsetType

from bhatti.cli import output
from bhatti.cli.aliases import Aliased
from bhatti.cli.answers import listed, removed
from bhatti.cli.session import client, json_option, print_json, quiet_option
from bhatti.model.user import Caps
from bhatti.operations import table, types

F = TypeVar("F", bound=Callable[..., Any])

WORDS = {
    "max_sandboxes": "Sandboxes at most",
    "max_cpus": "Virtual CPUs at most, in all sandboxes together",
    "max_memory_mb": "MiB of memory at most, in all sandboxes together",
    "max_volume_storage_mb": "MiB of volumes at most",
    "max_images": "Images at most",
    "max_snapshots": "Snapshots at most",
    "max_published": "Published ports at most",
}


def _cap_given(context: click.Context, option: click.Parameter, text: str | None) -> int | UnsetType | None:
    """Return the cap that an option gives; None is without a bound."""
    if text is None:
        return UNSET
    if text == "none":
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    raise click.BadParameter(f"{text!r} is neither a number nor `none`", context, option)


def cap_options(command: F) -> F:
    """Add an option for every cap."""
    for name in reversed(Caps.__struct_fields__):
        option = f"--{name.replace('_', '-')}"
        command = click.option(option, name, callback=_cap_given, metavar="N|none", help=f"{WORDS[name]}.")(command)
    return command


@click.group(cls=Aliased)
def user() -> None:
    """Make, list, change and remove users, who call with keys.

    Example: bhatti user create anna --max-sandboxes 10
    """


@user.command()
@click.argument("name")
@cap_options
@json_option
def create(name: str, as_json: bool, **caps: Any) -> None:  # noqa: ANN401
    """Make a user and print the key, which is told this once.

    Example: bhatti user create anna --max-sandboxes 10
    """
    made = client().call(table.USER_CREATE, types.UserCreate(name=name, **caps))
    _tell_key(made, as_json=as_json)


@user.command()
@json_option
@quiet_option
def ls(as_json: bool, quiet: bool) -> None:
    """List the users, with what they have of what they may have.

    Example: bhatti user ls
    """
    found = client().call(table.USER_LIST)
    headings = ("NAME", "ID", "SANDBOXES", "CPUS", "MEMORY", "AGE")
    listed(found, headings, _row, as_json=as_json, names=(lambda one: one.name) if quiet else None)


def _row(one: types.User) -> tuple[str, ...]:
    return (
        one.name,
        one.id,
        f"{one.sandboxes}/{_cap(one.max_sandboxes)}",
        f"{one.cpus}/{_cap(one.max_cpus)}",
        f"{one.memory_mb}/{_cap(one.max_memory_mb)} MiB",
        output.age(one.created_at),
    )


@user.command()
@click.argument("name")
@json_option
def inspect(name: str, as_json: bool) -> None:
    """Show one user.

    Example: bhatti user inspect anna
    """
    _show(client().call(table.USER_GET, user=name), as_json=as_json)


@user.command()
@click.argument("name")
@click.option("--name", "new_name", default="", metavar="NAME", help="Another name.")
@cap_options
@json_option
def update(name: str, new_name: str, as_json: bool, **caps: Any) -> None:  # noqa: ANN401
    """Change what a user is called or may have; what is not given stays as it is.

    Example: bhatti user update anna --max-cpus 16 --max-snapshots none
    """
    _show(client().call(table.USER_UPDATE, types.UserUpdate(name=new_name, **caps), user=name), as_json=as_json)


@user.command()
@click.argument("name")
@json_option
def rotate(name: str, as_json: bool) -> None:
    """Give a user another key and print it. The old one ends at once, and what is connected with it.

    Example: bhatti user rotate anna
    """
    _tell_key(client().call(table.USER_ROTATE, user=name), as_json=as_json)


@user.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-f", "--force", is_flag=True, help="Their sandboxes and volumes too, whatever is in them.")
@json_option
@quiet_option
def rm(names: tuple[str, ...], force: bool, as_json: bool, quiet: bool) -> None:
    """Remove users who have neither sandboxes nor volumes.

    One that fails does not keep the others from going; the first failure is told at the end.

    Example: bhatti user rm anna
    """
    caller = client()

    def remove(name: str) -> str:
        done = caller.download(table.USER_REMOVE, {"force": "true"} if force else {}, user=name)
        return msgspec.json.decode(done.read(), type=types.Outcome).status

    removed(names, remove, "deleted", as_json=as_json, quiet=quiet)


@user.command()
@json_option
def me(as_json: bool) -> None:
    """Say who the daemon takes you for, what you may have and what you have.

    Example: bhatti user me
    """
    found = client().call(table.ME)
    if as_json:
        print_json(found)
    elif found.user is None:
        click.echo(f"{found.name}, who administers this daemon")
    else:
        _show(found.user, as_json=False)


def _tell_key(made: types.UserKey, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    click.echo(f"{made.user.name} ({made.user.id}): the key is shown this once", err=True)
    click.echo(made.api_key)


def _show(one: types.User, *, as_json: bool) -> None:
    if as_json:
        print_json(one)
        return
    output.pairs(
        [
            ("name", one.name),
            ("id", one.id),
            ("sandboxes", f"{one.sandboxes} of {_cap(one.max_sandboxes)}"),
            ("cpus", f"{one.cpus} of {_cap(one.max_cpus)}"),
            ("memory", f"{one.memory_mb} of {_cap(one.max_memory_mb)} MiB"),
            ("volumes", f"{_cap(one.max_volume_storage_mb)} MiB at most"),
            ("images", f"{_cap(one.max_images)} at most"),
            ("snapshots", f"{_cap(one.max_snapshots)} at most"),
            ("published", f"{_cap(one.max_published)} at most"),
            ("created", f"{one.created_at:%Y-%m-%d %H:%M:%S} UTC, {output.age(one.created_at)} ago"),
        ]
    )


def _cap(cap: int | None) -> str:
    return "any" if cap is None else str(cap)


COMMANDS = {"user": user}
